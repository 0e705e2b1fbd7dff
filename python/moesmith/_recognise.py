# SPDX-License-Identifier: Apache-2.0
"""Which `Layer` an experts module of transformers is.

Layout comes from the flags that the decorator sets. The activation is recognised by what it does:
the module's own gate is run on a few hundred numbers, in double, beside every formula that the
library has, with every limit and alpha that the module holds. Exactly what matches is used; a
module whose gate matches nothing is refused. Names of classes and configuration keys decide
nothing.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F

from . import _private
from ._layer import Layer
from ._library import UnsupportedError

_ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}
# What the kernels know of a module; anything else that it holds may change what it computes.
_FLAGS = {"has_gate", "has_bias", "is_concatenated", "is_transposed"}
_CHILDREN = {"act_fn", "parametrizations"}
_PARAMETERS = {"gate_up_proj", "up_proj", "down_proj"}
_PARAMETERS |= {name + "_bias" for name in _PARAMETERS}
# x * sigmoid(1.702 x), which some configurations call quick_gelu.
_COMMON_ALPHAS = (1.0, 1.702)


def weight_name(module) -> str:
    """The name of the first projection's parameter."""
    return "gate_up_proj" if getattr(module, "has_gate", True) else "up_proj"


def settings(module) -> tuple:
    """What the answer depends on; as long as it is equal, a remembered answer is right."""
    return (
        getattr(module, "has_gate", True),
        getattr(module, "is_concatenated", True),
        getattr(module, "is_transposed", False),
        id(getattr(module, "act_fn", None)),
        *[value for _, value in _numbers(module)],
    )


def _numbers(module) -> list[tuple[str, float]]:
    """The limits and alphas among a module's attributes."""
    return [
        (name, float(value))
        for name, value in vars(module).items()
        if ("limit" in name or "alpha" in name)
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    ]


def _probe(limits: list[float]) -> torch.Tensor:
    """[rows] of gates or ups: near 0, at, and well beyond every limit."""
    widest = max([8.0, *[abs(limit) for limit in limits if math.isfinite(limit)]])
    points = torch.linspace(-1.5 * widest, 1.5 * widest, 61, dtype=torch.float64)
    return torch.cat([points, torch.linspace(-3, 3, 40, dtype=torch.float64)])


def _formula(layer: Layer, gate: torch.Tensor, up: torch.Tensor | None) -> torch.Tensor:
    if layer.gate_max is not None:
        gate = gate.clamp(max=layer.gate_max)
    if layer.activation == "silu":
        value = gate * torch.sigmoid(layer.alpha * gate)
    else:
        value = _ACTIVATIONS[layer.activation](gate)
    if up is None:
        return value
    if layer.up_limit is not None:
        up = up.clamp(-layer.up_limit, layer.up_limit)
    return value * (up + layer.up_shift)


def _candidates(module, implementation: str):
    """Every Layer that the module could be, the plainest first."""
    numbers = _numbers(module)
    limits = list(dict.fromkeys([None, *[v for n, v in numbers if "limit" in n and v >= 0]]))
    alphas = list(dict.fromkeys([*_COMMON_ALPHAS, *[v for n, v in numbers if "alpha" in n]]))
    gated = getattr(module, "has_gate", True)
    for name in _ACTIVATIONS:
        own_alphas = alphas if name == "silu" else [1.0]
        up_limits, shifts = (limits, (0.0, 1.0)) if gated else ([None], (0.0,))
        for gate_max, up_limit, alpha, shift in itertools.product(
            limits, up_limits, own_alphas, shifts
        ):
            yield Layer(
                implementation=implementation,
                activation=name,
                gated=gated,
                gate_max=gate_max,
                up_limit=up_limit,
                alpha=alpha,
                up_shift=shift,
                interleaved=gated and not getattr(module, "is_concatenated", True),
                transposed=getattr(module, "is_transposed", False),
            )


def _unknown_part(module) -> str | None:
    """The first flag, submodule or parameter that the kernels would leave out."""
    for name, value in vars(module).items():
        if name.startswith(("has_", "is_")) and value is True and name not in _FLAGS:
            return name
    for name, _ in module.named_children():
        if name not in _CHILDREN:
            return name
    for name, _ in module.named_parameters(recurse=False):
        if name not in _PARAMETERS:
            return name
    return None


def _describe(module) -> str:
    activation = getattr(module, "act_fn", None)
    gate = _private.gate_of(module)
    text = type(module).__name__
    if activation is not None:
        text += f", act_fn {getattr(activation, '__name__', type(activation).__name__)}"
    if gate is not None and getattr(module, "has_gate", True):
        text += f", gate {getattr(gate, '__qualname__', gate)}"
    return text


@torch.no_grad()
def _match(module, implementation: str) -> Layer | None:
    gated = getattr(module, "has_gate", True)
    values = _probe([v for _, v in _numbers(module)])
    if gated:
        # Two columns of each, so that the orders g0 g1 u0 u1 and g0 u0 g1 u1 differ.
        gate, up = (t.reshape(-1, 2) for t in torch.meshgrid(values, values[:-1], indexing="ij"))
        interleaved = not getattr(module, "is_concatenated", True)
        joined = torch.stack((gate, up), dim=2) if interleaved else torch.stack((gate, up), dim=1)
        result = _private.gate_of(module)(joined.reshape(-1, 4))
    else:
        result, gate, up = module.act_fn(values), values, None
    for layer in _candidates(module, implementation):
        expected = _formula(layer, gate, up)
        if torch.allclose(result, expected, rtol=1e-6, atol=1e-9):
            return layer
    return None


def recognise(module, implementation: str) -> Layer:
    """The Layer of an experts module. Raises UnsupportedError with what to use instead."""
    layer, unknown = None, _unknown_part(module)
    try:
        with torch.device("cpu"), torch.autocast("cpu", enabled=False):
            layer = None if unknown else _match(module, implementation)
    except Exception as error:  # whatever a foreign gate raises on plain numbers
        reason = f"its gate cannot be run on its own ({type(error).__name__}: {error})"
    else:
        reason = "its gate is none of the formulas that the kernels have"
        if unknown:
            reason = f"it has {unknown}, which the kernels do not know"
    if layer is None:
        raise UnsupportedError(
            f"moesmith: {_describe(module)}: {reason}; "
            'use experts_implementation="grouped_mm" or "eager" for this model'
        )
    return layer
