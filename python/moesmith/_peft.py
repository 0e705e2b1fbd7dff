# SPDX-License-Identifier: Apache-2.0
"""PEFT's LoRA on expert parameters, run inside the experts function: W + delta is never built.

PEFT wraps an experts module once per adapted parameter (ParamWrapper), and computes W + delta for
all experts before each call. Here the wrapper's forward hands its factors to the experts module
instead, for the duration of the call. Wrappers, their parameters and their names in files stay
PEFT's own.
"""

from __future__ import annotations

import functools

import torch

from . import _private
from ._forward import ADAPTERS, runs_here
from ._functional import Adapter
from ._library import UnsupportedError

_PARAMETERS = ("gate_up_proj", "up_proj", "down_proj")
_MARK = "_moesmith_stock_forward"


def why_not_fused(wrapper) -> str | None:
    """Why a wrapper's adapter does not run inside the experts function; None when it does (which
    includes having nothing to do: disabled, merged, or no active adapter of this wrapper)."""
    return _why_not_fused(wrapper, wrapper.get_base_layer())


def _why_not_fused(wrapper, module) -> str | None:
    if not runs_here(module):
        return f"experts_implementation is {_private.implementation_of(module)!r}"
    if wrapper.parameter_name not in _PARAMETERS:
        return f"{wrapper.parameter_name} is not a projection of the experts"
    return None


def _one_adapter(adapters: list[Adapter], num_experts: int) -> Adapter:
    """The sum of several adapters as one of the sum of their ranks: still no delta of W's size."""
    if len(adapters) == 1:
        return adapters[0]
    a = [one.a.reshape(num_experts, -1, one.a.shape[1]) for one in adapters]
    b = [
        one.b.float().reshape(one.b.shape[0], -1, num_experts) * one.scale for one in adapters
    ]  # scales differ: they go into B, in f32
    a, b = torch.cat(a, dim=1), torch.cat(b, dim=1)
    return Adapter(a.reshape(-1, a.shape[2]), b.reshape(b.shape[0], -1), 1.0)


def active_adapters(wrapper) -> list[str]:
    """The adapters of a wrapper that change its module's output now."""
    if wrapper.disable_adapters or wrapper.merged:
        return []
    factors = wrapper.lora_A
    return [name for name in wrapper.active_adapters if name in factors]


def _adapter_of(wrapper) -> Adapter | None:
    names = active_adapters(wrapper)
    if not names:
        return None
    a, b, scaling = wrapper.lora_A, wrapper.lora_B, wrapper.scaling
    adapters = [Adapter(a[name].weight, b[name].weight, float(scaling[name])) for name in names]
    return _one_adapter(adapters, wrapper.num_experts)


def _fused_forward(stock, self, x, *args, **kwargs):
    module = _private.base_of(self)
    if (
        self.disable_adapters
        or kwargs.get("adapter_names") is not None
        or _why_not_fused(self, module) is not None
    ):
        return stock(self, x, *args, **kwargs)
    adapter = _adapter_of(self)
    if adapter is None:
        return self.base_layer(x, *args, **kwargs)
    # In the module's own __dict__: its __setattr__ looks for parameters first.
    before = module.__dict__.get(ADAPTERS) or {}
    module.__dict__[ADAPTERS] = {**before, self.parameter_name: adapter}
    try:
        return self.base_layer(x, *args, **kwargs)
    finally:
        module.__dict__[ADAPTERS] = before


def too_old(release: tuple[int, ...]) -> str:
    """What to say of a PEFT older than OLDEST_PEFT."""
    oldest = ".".join(map(str, _private.OLDEST_PEFT))
    return (
        f"peft: got {'.'.join(map(str, release))}, expected {oldest} or newer: before that, LoRA "
        "on expert parameters has its factors on the wrong sides of the weight"
    )


def _refusing_forward(stock, reason, self, x, *args, **kwargs):
    if runs_here(self.get_base_layer()):
        raise UnsupportedError(f"moesmith: {reason}")
    return stock(self, x, *args, **kwargs)


def install() -> None:
    """Replaces ParamWrapper.forward, once; nothing to do without PEFT or without ParamWrapper."""
    found = _private.release_of("peft")
    if found is None:
        return
    try:
        wrapper = _private.param_wrapper()
    except ImportError:  # older than 0.17: there is no LoRA on parameters to refuse
        return
    if hasattr(wrapper.forward, _MARK):
        return
    stock = wrapper.forward
    if found < _private.OLDEST_PEFT:
        replacement = functools.partial(_refusing_forward, stock, too_old(found))
    else:
        replacement = functools.partial(_fused_forward, stock)

    @functools.wraps(stock)
    def forward(self, x, *args, **kwargs):
        return replacement(self, x, *args, **kwargs)

    setattr(forward, _MARK, stock)
    wrapper.forward = forward
