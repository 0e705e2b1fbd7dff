# SPDX-License-Identifier: Apache-2.0
"""`moesmith.experts`: the experts layer on plain tensors, with every argument checked by name."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from . import _ops
from ._layer import Layer
from ._library import InvalidInputError
from ._packed import PackedWeights
from ._plans import Tensors, dtype_code, inter_size

try:
    from torch.distributed.tensor import DTensor
except ImportError:  # a torch without torch.distributed
    DTensor = None

PLAIN = Layer()  # silu, gates first, [out, in]
_FLOATS = (torch.float32, torch.bfloat16)
_INDICES = (torch.int64, torch.int32)
_INTEGERS = (*_INDICES, torch.int16, torch.int8, torch.uint8)


class Adapter(NamedTuple):
    """LoRA on one projection in PEFT's layout: delta[e] = scale * B_e A_e."""

    a: Tensor  # [rank * E, in], row e * rank + j
    b: Tensor  # [out, rank * E], column j * E + e
    scale: float


def _local(tensor: Tensor | None) -> Tensor | None:
    """This rank's part of a distributed tensor; its gradient is distributed again."""
    if DTensor is not None and isinstance(tensor, DTensor):
        return tensor.to_local()
    return tensor


def _refuse(what: str, got, expected):
    raise InvalidInputError(f"moesmith: {what}: got {got}, expected {expected}")


def _check_tensor(what: str, tensor, hidden: Tensor) -> None:
    """A dense tensor on the device of hidden, which the library knows."""
    if not isinstance(tensor, Tensor):
        _refuse(what, f"a {type(tensor).__name__}", "a torch.Tensor")
    device = tensor.device
    if device != hidden.device:
        _refuse(what, f"a tensor on {device}", f"one on {hidden.device}, as hidden_states is")
    if device.type not in ("cpu", "cuda"):
        _refuse(what, f"a tensor on {device}", "the CPU or a CUDA GPU: move the model there")
    if tensor.layout is not torch.strided:
        _refuse(what, f"layout {tensor.layout}", "a dense tensor: call .to_dense()")


def _check_shape(what: str, tensor: Tensor | None, *shape: int) -> None:
    if tensor is not None and tensor.shape != shape:
        _refuse(what, list(tensor.shape), list(shape))


def _check_bias(what: str, bias: Tensor | None, hidden: Tensor, *shape: int) -> None:
    if bias is not None:
        _check_tensor(what, bias, hidden)
        _check_shape(what, bias, *shape)


def _check_weight(what: str, weight: Tensor) -> None:
    dtype_code(what, weight.dtype)
    if weight.dim() != 3:
        _refuse(what, list(weight.shape), "three dimensions, the first over experts")
    (_, rows, columns), (_, row_stride, stride) = weight.shape, weight.stride()
    if columns > 1 and stride != 1:
        _refuse(
            what,
            f"a last dimension of stride {stride}",
            "1: call .contiguous() on the parameter once, after loading",
        )
    if rows > 1 and row_stride < columns:
        _refuse(what, f"rows of stride {row_stride}", f"at least {columns}")


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """Autocast's dtype where autocast is on, else that of hidden."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _factors(
    what: str,
    adapter: Adapter | None,
    num_experts: int,
    rows: int,
    cols: int,
    dtype: torch.dtype,
    hidden: Tensor,
):
    """(A, B, scale) in one dtype that the library takes; (None, None, 1) without an adapter."""
    if adapter is None:
        return None, None, 1.0
    if not isinstance(adapter, Adapter):
        _refuse(what, f"a {type(adapter).__name__}", "a moesmith.Adapter(a, b, scale)")
    a, b, scale = _local(adapter.a), _local(adapter.b), float(adapter.scale)
    _check_tensor(f"{what} A", a, hidden)
    _check_tensor(f"{what} B", b, hidden)
    if not math.isfinite(scale):
        _refuse(f"{what} scale", scale, "a finite number")
    if dtype == torch.float64:
        a, b = a.to(dtype), b.to(dtype)
    elif a.dtype != b.dtype or a.dtype not in _FLOATS:
        a, b = a.float(), b.float()
    total = a.shape[0]
    if total % num_experts != 0:
        _refuse(what, f"A of {total} rows", f"a multiple of the {num_experts} experts")
    _check_shape(f"{what} A", a, total, cols)
    _check_shape(f"{what} B", b, rows, total)
    return a, b, scale


def experts(
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    layer: Layer = PLAIN,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    gate_up_lora: Adapter | None = None,
    down_lora: Adapter | None = None,
    packs: PackedWeights | None = None,
) -> Tensor:
    """The weighted sum of each token's experts, [T, H] in the dtype of hidden_states.

    hidden_states [T, H] bfloat16 or float32, top_k_index [T, K] of integers, top_k_weights [T, K].
    A slot whose index lies outside [0, E) adds nothing and its gradients are exactly 0. Weights are
    [E, 2I, H] and [E, H, I] (`Layer` says which way round), biases [E, 2I] and [E, H]; they are
    read where they lie, in float32 or bfloat16; on the CPU, where they are frozen, from the copies
    in `packs` (one object for each layer). Under autocast it computes in autocast's dtype.
    Differentiable in everything but the index; gradients of gradients are refused. Raises
    InvalidInputError naming the argument, or UnsupportedError when no implementation takes it.
    """
    gate_up, down = _local(gate_up), _local(down)
    gate_up_bias, down_bias = _local(gate_up_bias), _local(down_bias)
    if not isinstance(layer, Layer):
        _refuse("layer", repr(layer), "a moesmith.Layer")
    _check_tensor("hidden_states", hidden_states, hidden_states)
    _check_tensor("top_k_index", top_k_index, hidden_states)
    _check_tensor("top_k_weights", top_k_weights, hidden_states)
    _check_tensor("gate_up", gate_up, hidden_states)
    _check_tensor("down", down, hidden_states)
    if hidden_states.dim() != 2:
        _refuse("hidden_states", list(hidden_states.shape), "[T, H]")
    _check_weight("gate_up", gate_up)
    _check_weight("down", down)
    num_experts, num_tokens, hidden = gate_up.shape[0], *hidden_states.shape
    inter = inter_size(gate_up, layer)
    width = 2 * inter if layer.gated else inter
    flip = layer.transposed
    _check_shape("gate_up", gate_up, num_experts, *((hidden, width) if flip else (width, hidden)))
    _check_shape("down", down, num_experts, *((inter, hidden) if flip else (hidden, inter)))
    if down.dtype != gate_up.dtype:
        _refuse("down", down.dtype, f"gate_up's {gate_up.dtype}: cast both to one dtype")
    if top_k_index.dim() != 2:
        _refuse("top_k_index", list(top_k_index.shape), "[T, K]")
    _check_shape("top_k_index", top_k_index, num_tokens, top_k_index.shape[1])
    _check_shape("top_k_weights", top_k_weights, num_tokens, top_k_index.shape[1])
    _check_bias("gate_up_bias", gate_up_bias, hidden_states, num_experts, width)
    _check_bias("down_bias", down_bias, hidden_states, num_experts, hidden)

    compute = _compute_dtype(hidden_states)
    a1, b1, s1 = _factors(
        "gate_up LoRA", gate_up_lora, num_experts, width, hidden, compute, hidden_states
    )
    a2, b2, s2 = _factors(
        "down LoRA", down_lora, num_experts, hidden, inter, compute, hidden_states
    )
    route_weights = top_k_weights
    if compute == torch.float64 or route_weights.dtype not in _FLOATS:
        if not route_weights.is_floating_point():
            _refuse("top_k_weights", route_weights.dtype, "a floating-point dtype")
        route_weights = route_weights.to(compute if compute == torch.float64 else torch.float32)
    if top_k_index.dtype not in _INDICES:
        if top_k_index.dtype not in _INTEGERS:
            _refuse("top_k_index", top_k_index.dtype, "integers, as topk gives them")
        top_k_index = top_k_index.to(torch.int64)
    tensors = Tensors(
        hidden_states.to(compute),
        top_k_index,
        route_weights,
        gate_up,
        down,
        None if gate_up_bias is None else gate_up_bias.to(gate_up.dtype),
        None if down_bias is None else down_bias.to(gate_up.dtype),
        a1,
        b1,
        a2,
        b2,
    )
    return _ops.experts(tensors, layer.text, (s1, s2), packs).to(hidden_states.dtype)
