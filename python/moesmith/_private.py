# SPDX-License-Identifier: Apache-2.0
"""Every name of torch, transformers, PEFT and Axolotl that is not public, and nothing else.

tests/python/test_private_names.py asserts each of them, so that a release that moves one is told
by name. All else in this package uses public names.
"""

from __future__ import annotations

import importlib.metadata
import re

# The oldest PEFT whose LoRA on expert parameters has A on the input side (its change #3165).
OLDEST_PEFT = (0, 19, 1)


def release_of(package: str) -> tuple[int, ...] | None:
    """The numeric part of an installed package's version; None where it is not installed."""
    try:
        text = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return tuple(map(int, re.match(r"\d+(\.\d+)*", text)[0].split(".")[:3]))


# torch --------------------------------------------------------------------------------------


def beside_the_trace(function) -> None:
    """While torch.compile traces the caller: runs function(context) as plain Python, now."""
    from torch._dynamo.comptime import comptime

    comptime(function)


def value_of(context, name: str):
    """The object behind a local variable of the traced function that called beside_the_trace."""
    variable = context.get_local(name, stacklevel=1)
    return variable._i_will_not_complain_if_bc_breaks_VariableTracker().value


# transformers -------------------------------------------------------------------------------


def implementation_of(module) -> str | None:
    """The experts implementation that a module's forward looks up, None for a module without."""
    return getattr(getattr(module, "config", None), "_experts_implementation", None)


def gate_of(module):
    """The module's own gate: [rows, 2I] -> [rows, I]; None where there is none."""
    return getattr(module, "_apply_gate", None)


# PEFT ---------------------------------------------------------------------------------------


def base_of(wrapper):
    """What wrapper.get_base_layer() gives, without its search of every level's attributes."""
    module, kind = wrapper, param_wrapper()
    while isinstance(module, kind):
        module = module.base_layer
    return module


def param_wrapper():
    """PEFT's wrapper around a module of which one parameter is adapted."""
    from peft.tuners.lora.layer import ParamWrapper

    return ParamWrapper
