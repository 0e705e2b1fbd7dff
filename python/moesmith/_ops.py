# SPDX-License-Identifier: Apache-2.0
"""The two custom operators, forward and backward, and the one way in: `experts`.

For torch.compile both are opaque; they have fake implementations and one autograd formula. What
backward needs is one uint8 tensor; under no_grad it is empty. Gradients of gradients are refused.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from . import _library as c
from ._layer import Layer
from ._plans import Tensors, inter_size, lora_rank, plan_of, pool_holder, saved_bound, scratch

_NUM_TENSORS = len(Tensors._fields)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _dense(tensors: Tensors) -> Tensors:
    """Contiguous, except for the weights, which are read where they lie."""
    return Tensors(
        *[
            t if t is None or name in ("gate_up", "down") else t.contiguous()
            for name, t in zip(Tensors._fields, tensors)
        ]
    )


def _inputs(tensors: Tensors) -> c.Inputs:
    t = tensors
    return c.Inputs(
        num_tokens=t.hidden.shape[0],
        hidden=t.hidden.data_ptr(),
        top_k_index=t.index.data_ptr(),
        top_k_weights=t.route_weights.data_ptr(),
        gate_up=c.Projection(t.gate_up.data_ptr(), None, t.gate_up.stride(0), t.gate_up.stride(1)),
        down=c.Projection(t.down.data_ptr(), None, t.down.stride(0), t.down.stride(1)),
        gate_up_bias=_address(t.gate_up_bias),
        down_bias=_address(t.down_bias),
        gate_up_a=_address(t.gate_up_a),
        gate_up_b=_address(t.gate_up_b),
        down_a=_address(t.down_a),
        down_b=_address(t.down_b),
    )


def _call(name: str, plan: c.Plan, args, device: torch.device) -> None:
    """Runs one C function on the process's threads, or on the device's current stream."""
    if device.type == "cpu":
        status = getattr(c.lib, name)(plan.handle, args, pool_holder.get().handle)
    else:
        stream = torch.cuda.current_stream(device).cuda_stream
        status = getattr(c.lib, name + "_cuda")(plan.handle, args, device.index, stream)
    c.check(status)


def _num_threads(device: torch.device) -> int:
    return pool_holder.get().num_threads if device.type == "cpu" else 1


def _saved_bytes(tensors: Tensors, layer_text: str, wanted: int):
    t, layer = tensors, Layer.from_text(layer_text)
    width = inter_size(t.gate_up, layer) * (2 if layer.gated else 1)
    num_experts = t.gate_up.shape[0]
    ranks = (lora_rank(t.gate_up_a, num_experts), lora_rank(t.down_a, num_experts))
    return saved_bound(
        t.hidden.shape[0], t.index.shape[1], width, ranks, t.hidden.element_size(), wanted
    )


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
    tensors = _dense(
        Tensors(
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
    )
    device, num_tokens = hidden.device, hidden.shape[0]
    plan = plan_of(tensors, layer, (gate_up_scale, down_scale), wanted)
    saved_bytes, scratch_bytes, _ = plan.sizes(num_tokens, _num_threads(device))
    bound = _saved_bytes(tensors, layer, wanted)
    if saved_bytes > bound:
        raise c.MoesmithError(
            f"moesmith: {plan.text}: saves {saved_bytes} bytes, expected at most {bound}"
        )
    output = torch.empty(hidden.shape, dtype=hidden.dtype, device=device)
    saved = torch.empty(bound, dtype=torch.uint8, device=device)
    work = scratch(scratch_bytes, device)
    args = c.sized(c.ForwardArgs)
    args.inputs, args.output = _inputs(tensors), output.data_ptr()
    args.saved, args.saved_bytes = saved.data_ptr(), bound
    args.scratch, args.scratch_bytes = work.data_ptr(), work.numel()
    _call("moesmith_forward", plan, args, device)
    return output, saved


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
    """The wanted gradients in the order of _library.GRADIENTS, each dense and like its tensor.
    `saved` is what experts_forward returned for the same arguments; it is not changed."""
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
    tensors, device = _dense(given), hidden.device
    plan = plan_of(tensors, layer, (gate_up_scale, down_scale), wanted)
    _, _, scratch_bytes = plan.sizes(hidden.shape[0], _num_threads(device))
    d_output = d_output.to(hidden.dtype).contiguous()
    work = scratch(scratch_bytes, device)
    args = c.sized(c.BackwardArgs)
    args.inputs, args.d_output = _inputs(tensors), d_output.data_ptr()
    args.saved, args.saved_bytes = saved.data_ptr(), saved.numel()
    args.scratch, args.scratch_bytes = work.data_ptr(), work.numel()
    gradients = []
    for bit, (name, tensor) in enumerate(zip(c.GRADIENTS, given.differentiable())):
        if wanted >> bit & 1:
            gradients.append(torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
            setattr(args, name, gradients[-1].data_ptr())
    _call("moesmith_backward", plan, args, device)
    return gradients


@experts_backward.register_fake
def _(d_output, saved, *rest):
    tensors, wanted = Tensors(*rest[:_NUM_TENSORS]), rest[-1]
    return [
        tensor.new_empty(tensor.shape)
        for bit, tensor in enumerate(tensors.differentiable())
        if wanted >> bit & 1
    ]


def _setup_context(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], *inputs[:_NUM_TENSORS])
    ctx.settings = inputs[_NUM_TENSORS:]


def _backward(ctx, d_output, _d_saved):
    saved, *tensors = ctx.saved_tensors
    wanted = ctx.settings[-1]
    result: list[Tensor | None] = [None] * (_NUM_TENSORS + len(ctx.settings))
    if d_output is None:
        return tuple(result)
    gradients = iter(experts_backward(d_output, saved, *tensors, *ctx.settings))
    places = (0, *range(2, _NUM_TENSORS))  # `index` has no gradient
    for bit, place in enumerate(places):
        if wanted >> bit & 1:
            result[place] = next(gradients)
    return tuple(result)


experts_forward.register_autograd(_backward, setup_context=_setup_context)


def _refuse_double_backward(ctx, *_gradients):
    raise c.UnsupportedError(
        "moesmith: gradients of gradients are not built (backward with create_graph=True); "
        'use experts_implementation="eager" for them'
    )


experts_backward.register_autograd(_refuse_double_backward)


def experts(tensors: Tensors, layer_text: str, scales: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """y [T, H] = sum over k of w[t,k] * E_{index[t,k]}(x[t]), differentiable in all but the index.

    Tensors must have the dtypes and shapes that `moesmith.experts` brings them to. Gradients are
    computed for what requires one, and nothing is kept where grad mode is off.
    """
    wanted = 0
    if torch.is_grad_enabled():
        for bit, tensor in enumerate(tensors.differentiable()):
            if tensor is not None and tensor.requires_grad:
                wanted |= 1 << bit
    return experts_forward(*tensors, layer_text, *scales, wanted)[0]
