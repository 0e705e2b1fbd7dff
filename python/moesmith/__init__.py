# SPDX-License-Identifier: Apache-2.0
"""Moesmith's experts layer for transformers, PEFT and Axolotl.

import moesmith
moesmith.register()
model = AutoModelForCausalLM.from_pretrained(..., experts_implementation="moesmith")
"""

from ._functional import Adapter, experts
from ._layer import Layer
from ._library import (
    InvalidInputError,
    MoesmithError,
    OutOfMemoryError,
    UnsupportedError,
    has_cuda,
    version,
)
from ._packed import PackedWeights, pack_experts
from ._plans import release_scratch
from ._register import register
from ._report import report

__version__ = version()

__all__ = [
    "Adapter",
    "InvalidInputError",
    "Layer",
    "MoesmithError",
    "OutOfMemoryError",
    "PackedWeights",
    "UnsupportedError",
    "experts",
    "has_cuda",
    "pack_experts",
    "register",
    "release_scratch",
    "report",
    "version",
]
