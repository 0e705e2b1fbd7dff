# SPDX-License-Identifier: Apache-2.0
"""The functions that transformers calls in place of an experts module's own forward.

f(module, hidden_states [T, H], top_k_index [T, K], top_k_weights [T, K]) -> [T, H]
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc

import torch

from . import _private, _recognise
from ._functional import experts
from ._layer import Layer
from ._library import UnsupportedError
from ._packed import PackedWeights

# An attribute of the module while a call runs: {parameter: Adapter}, set by PEFT's wrappers.
ADAPTERS = "_moesmith_adapters"
# Further attributes of the module.
_LAYER, _SETTINGS, _PACKS = "_moesmith_layer", "_moesmith_settings", "_moesmith_packs"


def resolve(module, implementation: str) -> Layer:
    """The module's Layer, worked out once and remembered as long as the module's settings stay.
    Raises UnsupportedError for a gate that the kernels do not have."""
    settings = _recognise.settings(module)
    layer = getattr(module, _LAYER, None)
    if layer is None or getattr(module, _SETTINGS) != settings:
        layer = _recognise.recognise(module, implementation)
    elif layer.implementation != implementation:
        layer = dataclasses.replace(layer, implementation=implementation)
    else:
        return layer
    setattr(module, _SETTINGS, settings)
    setattr(module, _LAYER, layer)
    return layer


def _layer_of(module, implementation: str) -> Layer:
    if torch.compiler.is_compiling():  # worked out beside the trace, in which it is a constant
        _private.beside_the_trace(_resolve_traced)
        return getattr(module, _LAYER)
    return resolve(module, implementation)


def _resolve_traced(context) -> None:
    """Of the module being traced, and of its likes in the model: where layers are compiled one by
    one, a graph fits the others only if they know their Layer before they run."""
    module = _private.value_of(context, "module")
    implementation = _private.value_of(context, "implementation")
    known = getattr(module, _LAYER, None)
    resolve(module, implementation)
    if known is None or known.implementation != implementation:
        for other in gc.get_objects():  # nothing leads from a module to those beside it
            if type(other) is type(module) and other.config is module.config:
                with contextlib.suppress(UnsupportedError):  # its own call will say so
                    resolve(other, implementation)


def _weight(module, name: str) -> torch.Tensor:
    weight = getattr(module, name, None)
    if weight is None:
        raise UnsupportedError(
            f"moesmith: {type(module).__name__} has no {name}: its layout is not known here; "
            'use experts_implementation="eager" for this model'
        )
    return weight


def _packs(module) -> PackedWeights:
    packs = module.__dict__.get(_PACKS)
    if packs is None:
        packs = module.__dict__[_PACKS] = PackedWeights()
    return packs


def _experts_forward(module, implementation, hidden_states, top_k_index, top_k_weights):
    first = _recognise.weight_name(module)
    has_bias = getattr(module, "has_bias", False)
    adapters = module.__dict__.get(ADAPTERS) or {}
    return experts(
        hidden_states,
        top_k_index,
        top_k_weights,
        _weight(module, first),
        _weight(module, "down_proj"),
        layer=_layer_of(module, implementation),
        gate_up_bias=_weight(module, first + "_bias") if has_bias else None,
        down_bias=_weight(module, "down_proj_bias") if has_bias else None,
        gate_up_lora=adapters.get(first),
        down_lora=adapters.get("down_proj"),
        packs=None if torch.compiler.is_compiling() else _packs(module),
    )


def moesmith_forward(self, hidden_states, top_k_index, top_k_weights):
    """The fastest implementation that takes the problem; see `moesmith.report`."""
    return _experts_forward(self, "auto", hidden_states, top_k_index, top_k_weights)


def scattermoe_forward(self, hidden_states, top_k_index, top_k_weights):
    """Gather and scatter inside the product, on the CPU and on GPUs from sm_80 on."""
    return _experts_forward(self, "scattermoe", hidden_states, top_k_index, top_k_weights)


def sonicmoe_forward(self, hidden_states, top_k_index, top_k_weights):
    """Written for Hopper; refused, with the reason, elsewhere."""
    return _experts_forward(self, "sonicmoe", hidden_states, top_k_index, top_k_weights)


# The names that a user writes, and what each means in the library's table.
FUNCTIONS = {
    "moesmith": moesmith_forward,
    "scattermoe": scattermoe_forward,
    "sonicmoe": sonicmoe_forward,
}
IMPLEMENTATIONS = {"moesmith": "auto", "scattermoe": "scattermoe", "sonicmoe": "sonicmoe"}


def runs_here(module) -> bool:
    """Whether the experts module's forward is one of these functions now."""
    name = _private.implementation_of(module)
    function = FUNCTIONS.get(name)
    if function is None:
        return False
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    return ALL_EXPERTS_FUNCTIONS.get(name) is function
