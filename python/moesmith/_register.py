# SPDX-License-Identifier: Apache-2.0
"""`moesmith.register()`: the functions of _forward.py where transformers looks them up by name."""

from __future__ import annotations

from . import _peft, _private
from ._forward import FUNCTIONS

_OLDEST_TRANSFORMERS = (5, 7)


def register() -> None:
    """Puts `moesmith`, `scattermoe` and `sonicmoe` into transformers' ExpertsInterface, and lets
    PEFT's LoRA on expert parameters run inside them. Call it before the model is made; again is
    harmless.

    Raises ImportError for transformers older than 5.7, whose models accept no further names. A PEFT
    older than 0.19.1 is refused when an adapter on experts first runs.
    """
    found = _private.release_of("transformers")
    if found is None or found < _OLDEST_TRANSFORMERS:
        version = "none" if found is None else ".".join(map(str, found))
        raise ImportError(f"moesmith.register: transformers: got {version}, expected 5.7 or newer")
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    for name, function in FUNCTIONS.items():
        ALL_EXPERTS_FUNCTIONS.register(name, function)
        if (
            ALL_EXPERTS_FUNCTIONS[name] is not function
        ):  # an entry of the instance hides the class's
            ALL_EXPERTS_FUNCTIONS[name] = function
    _peft.install()
