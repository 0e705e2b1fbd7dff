# SPDX-License-Identifier: Apache-2.0
"""The layer as autograd sees it, and the one way in: `experts`.

torch.compile sees two custom operators, forward and backward, opaque, with fake implementations and
one autograd formula; elsewhere an autograd function does the same. What backward needs is one uint8
tensor; under no_grad it is empty. Gradients of gradients are refused.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from . import _library as c
from ._layer import Layer
from ._packed import PackedWeights
from ._plans import Tensors, inter_size, lora_rank, plan_of, pool_holder, saved_bound, scratch

_NUM_TENSORS = len(Tensors._fields)
_PLACES = (0, *range(2, _NUM_TENSORS))  # of what may want a gradient: `index` may not
_NO_PROJECTION = (None, None, 0, 0)
_FORWARD_BYTES, _BACKWARD_BYTES = ctypes.sizeof(c.ForwardArgs), ctypes.sizeof(c.BackwardArgs)
_PLAIN = (Tensor, torch.nn.Parameter)


_CONTIGUOUS = tuple(name not in ("gate_up", "down") for name in Tensors._fields)


def _dense(tensors: Tensors) -> Tensors:
    """Contiguous, except for the weights, which are read where they lie."""
    if all(t is None or not c_ or t.is_contiguous() for t, c_ in zip(tensors, _CONTIGUOUS)):
        return tensors
    return Tensors(
        *[t if t is None or not c_ else t.contiguous() for t, c_ in zip(tensors, _CONTIGUOUS)]
    )


def _projection(weight: Tensor) -> tuple:
    return weight.data_ptr(), None, weight.stride(0), weight.stride(1)


def _inputs(t: Tensors, packed: Tensor | None) -> tuple:
    """The fields of c.Inputs in their order; ctypes fills nested structs from tuples."""
    addresses = [None if one is None else one.data_ptr() for one in t[5:]]
    return (
        t[0].shape[0],
        t[0].data_ptr(),
        t[1].data_ptr(),
        t[2].data_ptr(),
        _projection(t[3]),
        _NO_PROJECTION,
        _projection(t[4]),
        *addresses,
        None if packed is None else packed.data_ptr(),
        0 if packed is None else packed.numel(),
    )


def _call(cpu_function, cuda_function, plan: c.Plan, args, device: torch.device) -> None:
    """Runs one C function on the process's threads, or on the device's current stream."""
    if device.type == "cpu":
        status = cpu_function(plan.handle, args, pool_holder.get().handle)
    else:
        stream = torch.cuda.current_stream(device).cuda_stream
        status = cuda_function(plan.handle, args, device.index, stream)
    if status:
        c.check(status)


def _num_threads(device: torch.device) -> int:
    return pool_holder.get().num_threads if device.type == "cpu" else 1


class Call(NamedTuple):
    """What a call is besides its tensors."""

    layer: str  # Layer.text
    gate_up_scale: float
    down_scale: float
    wanted: int  # bit i asks for the i-th gradient of _library.GRADIENTS


def _plan(tensors: Tensors, call: Call, packed: Tensor | None) -> c.Plan:
    return plan_of(tensors, call.layer, call[1:3], call.wanted, packed is not None)


def _run_forward(
    tensors: Tensors, call: Call, packed: Tensor | None, saved_bytes: int | None = None
) -> tuple[Tensor, Tensor]:
    """(y, what backward needs: saved_bytes of it, or as many as the plan says)."""
    tensors = _dense(tensors)
    hidden, device = tensors.hidden, tensors.hidden.device
    plan = _plan(tensors, call, packed)
    needed, scratch_bytes, _ = plan.sizes(hidden.shape[0], _num_threads(device))
    if saved_bytes is None:
        saved_bytes = needed
    elif needed > saved_bytes:
        raise c.MoesmithError(
            f"moesmith: {plan.text}: saves {needed} bytes, expected at most {saved_bytes}"
        )
    output = torch.empty(hidden.shape, dtype=hidden.dtype, device=device)
    saved = torch.empty(saved_bytes, dtype=torch.uint8, device=device)
    work = scratch(scratch_bytes, device)
    args = c.ForwardArgs(
        _FORWARD_BYTES,
        0,
        _inputs(tensors, packed),
        output.data_ptr(),
        saved.data_ptr(),
        work.data_ptr(),
        saved_bytes,
        work.numel(),
    )
    _call(c.lib.moesmith_forward, c.lib.moesmith_forward_cuda, plan, args, device)
    return output, saved


def _run_backward(
    d_output: Tensor, saved: Tensor, given: Tensors, call: Call, packed: Tensor | None
) -> list[Tensor]:
    """The wanted gradients in the order of _library.GRADIENTS, each dense and like its tensor."""
    tensors = _dense(given)
    hidden, device = tensors.hidden, tensors.hidden.device
    plan = _plan(tensors, call, packed)
    _, _, scratch_bytes = plan.sizes(hidden.shape[0], _num_threads(device))
    d_output = d_output.to(hidden.dtype).contiguous()
    gradients, addresses, wanted = [], [], call.wanted
    for bit, tensor in enumerate(given.differentiable()):
        if wanted >> bit & 1:
            gradients.append(torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
            addresses.append(gradients[-1].data_ptr())
        else:
            addresses.append(None)
    work = scratch(scratch_bytes, device)
    args = c.BackwardArgs(
        _BACKWARD_BYTES,
        0,
        _inputs(tensors, packed),
        d_output.data_ptr(),
        saved.data_ptr(),
        work.data_ptr(),
        saved.numel(),
        work.numel(),
        *addresses,
    )
    _call(c.lib.moesmith_backward, c.lib.moesmith_backward_cuda, plan, args, device)
    return gradients


def _saved_bytes(tensors: Tensors, layer_text: str, wanted: int):
    t, layer = tensors, Layer.from_text(layer_text)
    width = inter_size(t.gate_up, layer) * (2 if layer.gated else 1)
    num_experts = t.gate_up.shape[0]
    ranks = (lora_rank(t.gate_up_a, num_experts), lora_rank(t.down_a, num_experts))
    return saved_bound(
        t.hidden.shape[0], t.index.shape[1], width, ranks, t.hidden.element_size(), wanted
    )


# For torch.compile ------------------------------------------------------------------------------


@torch.library.custom_op("moesmith::experts_forward", mutates_args=())
def experts_forward(
    hidden: Tensor,
    index: Tensor,
    route_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    gate_up_bias: Optional[Tensor],
    down_bias: Optional[Tensor],
    gate_up_a: Optional[Tensor],
    gate_up_b: Optional[Tensor],
    down_a: Optional[Tensor],
    down_b: Optional[Tensor],
    layer: str,
    gate_up_scale: float,
    down_scale: float,
    wanted: int,
) -> tuple[Tensor, Tensor]:
    """(y [T, H] in hidden's dtype, what backward needs as uint8); shapes as in Tensors. Bit i of
    `wanted` asks for the i-th gradient of _library.GRADIENTS."""
    tensors = Tensors(
        hidden,
        index,
        route_weights,
        gate_up,
        down,
        gate_up_bias,
        down_bias,
        gate_up_a,
        gate_up_b,
        down_a,
        down_b,
    )
    call = Call(layer, gate_up_scale, down_scale, wanted)
    return _run_forward(tensors, call, None, _saved_bytes(tensors, layer, wanted))


@experts_forward.register_fake
def _(hidden, index, route_weights, gate_up, down, *rest):
    optional, (layer, _, _, wanted) = rest[:6], rest[6:]
    tensors = Tensors(hidden, index, route_weights, gate_up, down, *optional)
    saved = hidden.new_empty(_saved_bytes(tensors, layer, wanted), dtype=torch.uint8)
    return hidden.new_empty(hidden.shape), saved


@torch.library.custom_op("moesmith::experts_backward", mutates_args=())
def experts_backward(
    d_output: Tensor,
    saved: Tensor,
    hidden: Tensor,
    index: Tensor,
    route_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    gate_up_bias: Optional[Tensor],
    down_bias: Optional[Tensor],
    gate_up_a: Optional[Tensor],
    gate_up_b: Optional[Tensor],
    down_a: Optional[Tensor],
    down_b: Optional[Tensor],
    layer: str,
    gate_up_scale: float,
    down_scale: float,
    wanted: int,
) -> list[Tensor]:
    """As _run_backward. `saved` is what experts_forward returned for the same arguments; it is not
    changed."""
    given = Tensors(
        hidden,
        index,
        route_weights,
        gate_up,
        down,
        gate_up_bias,
        down_bias,
        gate_up_a,
        gate_up_b,
        down_a,
        down_b,
    )
    call = Call(layer, gate_up_scale, down_scale, wanted)
    return _run_backward(d_output, saved, given, call, None)


@experts_backward.register_fake
def _(d_output, saved, *rest):
    tensors, wanted = Tensors(*rest[:_NUM_TENSORS]), rest[-1]
    return [
        tensor.new_empty(tensor.shape)
        for bit, tensor in enumerate(tensors.differentiable())
        if wanted >> bit & 1
    ]


def _in_places(gradients: list[Tensor], wanted: int) -> list[Tensor | None]:
    """One for each of Tensors, None where none is wanted."""
    result: list[Tensor | None] = [None] * _NUM_TENSORS
    rest = iter(gradients)
    for bit, place in enumerate(_PLACES):
        if wanted >> bit & 1:
            result[place] = next(rest)
    return result


def _setup_context(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], *inputs[:_NUM_TENSORS])
    ctx.call = Call(*inputs[_NUM_TENSORS:])


def _backward(ctx, d_output, _d_saved):
    saved, *tensors = ctx.saved_tensors
    nothing = [None] * len(ctx.call)
    if d_output is None:
        return (*[None] * _NUM_TENSORS, *nothing)
    gradients = experts_backward(d_output, saved, *tensors, *ctx.call)
    return (*_in_places(gradients, ctx.call.wanted), *nothing)


experts_forward.register_autograd(_backward, setup_context=_setup_context)


def _refuse_double_backward(ctx, *_gradients):
    raise c.UnsupportedError(
        "moesmith: gradients of gradients are not built (backward with create_graph=True); "
        'use experts_implementation="eager" for them'
    )


experts_backward.register_autograd(_refuse_double_backward)


# Everywhere else ---------------------------------------------------------------------------------


class _Experts(torch.autograd.Function):
    """The same without the operators: their machinery takes the host a millisecond a call, which a
    GPU that has computed the layer by then would wait for."""

    @staticmethod
    def forward(ctx, call: Call, packed: Tensor | None, *tensors: Tensor | None) -> Tensor:
        given = Tensors(*tensors)
        output, saved = _run_forward(given, call, packed)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(saved, *tensors)
        ctx.call, ctx.packed = call, packed
        return output

    @staticmethod
    def backward(ctx, d_output):
        saved, *tensors = ctx.saved_tensors
        if d_output is None:
            return (None,) * (2 + _NUM_TENSORS)
        if torch.is_grad_enabled():  # create_graph: results that refuse to be differentiated
            gradients = experts_backward(d_output, saved, *tensors, *ctx.call)
        else:
            gradients = _run_backward(d_output, saved, Tensors(*tensors), ctx.call, ctx.packed)
        return (None, None, *_in_places(gradients, ctx.call.wanted))


def _opaque(tensors: Tensors) -> bool:
    """Whether something looks at operators: a compiler, or tensors without memory of their own."""
    return torch.compiler.is_compiling() or type(tensors.hidden) not in _PLAIN


def experts(
    tensors: Tensors,
    layer_text: str,
    scales: tuple[float, float] = (1.0, 1.0),
    packs: PackedWeights | None = None,
) -> Tensor:
    """y [T, H] = sum over k of w[t,k] * E_{index[t,k]}(x[t]), differentiable in all but the index.

    Tensors must have the dtypes and shapes that `moesmith.experts` brings them to. Gradients are
    computed for what requires one, and nothing is kept where grad mode is off.
    """
    wanted = 0
    if torch.is_grad_enabled():
        for bit, tensor in enumerate(tensors.differentiable()):
            if tensor is not None and tensor.requires_grad:
                wanted |= 1 << bit
    if _opaque(tensors):
        return experts_forward(*tensors, layer_text, *scales, wanted)[0]
    call, packed = Call(layer_text, *scales, wanted), None
    if packs is not None:
        packed = packs.of(tensors, layer_text, scales, wanted)
    if not wanted:
        return _run_forward(tensors, call, packed)[0]
    return _Experts.apply(call, packed, *tensors)
