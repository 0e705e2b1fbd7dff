# SPDX-License-Identifier: Apache-2.0
"""From tensors to a plan: the request, the plans that were made, threads and scratch memory."""

from __future__ import annotations

import functools
import os
import threading
from typing import NamedTuple

import torch

from . import _library as c
from ._layer import Layer

_DTYPES = {
    torch.float32: c.F32,
    torch.bfloat16: c.BF16,
    torch.float64: c.F64,
    torch.int64: c.I64,
    torch.int32: c.I32,
}


class Tensors(NamedTuple):
    """One call's tensors; E, K, H, I are experts, slots per token, hidden and intermediate size."""

    hidden: torch.Tensor  # [T, H]
    index: torch.Tensor  # [T, K] int64 or int32
    route_weights: torch.Tensor  # [T, K]
    gate_up: torch.Tensor  # [E, 2I, H]; not gated [E, I, H]; transposed: the last two exchanged
    down: torch.Tensor  # [E, H, I]; transposed [E, I, H]
    gate_up_bias: torch.Tensor | None  # [E, 2I]
    down_bias: torch.Tensor | None  # [E, H]
    gate_up_a: torch.Tensor | None  # [rank * E, H], PEFT's layout
    gate_up_b: torch.Tensor | None  # [2I, rank * E]
    down_a: torch.Tensor | None  # [rank * E, I]
    down_b: torch.Tensor | None  # [H, rank * E]

    def differentiable(self) -> tuple[torch.Tensor | None, ...]:
        """Everything that may want a gradient, in the order of the bits of `wanted`."""
        return (self.hidden, *self[2:])


class _Key(NamedTuple):
    layer: str
    device: int | None  # None: the CPU
    num_experts: int
    top_k: int
    hidden: int
    inter: int
    max_tokens: int
    compute_dtype: torch.dtype
    weight_dtype: torch.dtype
    index_dtype: torch.dtype
    route_weights_dtype: torch.dtype
    gate_up_bias: bool
    down_bias: bool
    aligned_weights: bool
    ranks: tuple[int, int]
    scales: tuple[float, float]
    lora_dtypes: tuple[torch.dtype, torch.dtype]
    wanted: int
    packed: bool  # calls read copies of the weights


def dtype_code(what: str, dtype: torch.dtype) -> int:
    """The C enumerator of a dtype; raises InvalidInputError for one that the library lacks."""
    if dtype not in _DTYPES:
        raise c.InvalidInputError(
            f"moesmith: {what}: got {dtype}, expected float32 or bfloat16: cast the model to "
            'bfloat16, or use experts_implementation="grouped_mm"'
        )
    return _DTYPES[dtype]


def lora_rank(a: torch.Tensor | None, num_experts: int) -> int:
    return 0 if a is None else a.shape[0] // num_experts


def inter_size(gate_up: torch.Tensor, layer: Layer) -> int:
    width = gate_up.shape[-1] if layer.transposed else gate_up.shape[-2]
    return width // 2 if layer.gated else width


def _rounded_tokens(num_tokens: int) -> int:
    """Up to 16 tokens are told apart (`auto` looks at them); more share plans by powers of 2."""
    return num_tokens if num_tokens <= 16 else 1 << (num_tokens - 1).bit_length()


def _aligned(tensor: torch.Tensor) -> bool:
    steps = (tensor.stride(0), tensor.stride(1))
    return tensor.data_ptr() % 16 == 0 and all(s * tensor.element_size() % 16 == 0 for s in steps)


def plan_of(
    tensors: Tensors,
    layer_text: str,
    scales: tuple[float, float],
    wanted: int,
    packed: bool = False,
) -> c.Plan:
    """The plan for a call with these tensors. Raises what _library.Plan raises."""
    hidden, index, route_weights, gate_up, down, bias_1, bias_2, a_1, _, a_2, _ = tensors
    num_tokens, width = hidden.shape
    num_experts = gate_up.shape[0]
    key = _Key(
        layer_text,
        hidden.device.index if hidden.is_cuda else None,
        num_experts,
        index.shape[1],
        width,
        inter_size(gate_up, Layer.from_text(layer_text)),
        _rounded_tokens(num_tokens),
        hidden.dtype,
        gate_up.dtype,
        index.dtype,
        route_weights.dtype,
        bias_1 is not None,
        bias_2 is not None,
        _aligned(gate_up) and _aligned(down),
        (lora_rank(a_1, num_experts), lora_rank(a_2, num_experts)),
        scales,
        (
            torch.float32 if a_1 is None else a_1.dtype,
            torch.float32 if a_2 is None else a_2.dtype,
        ),
        wanted,
        packed,
    )
    return _plan(key)


def nominal_plan(
    gate_up: torch.Tensor, down: torch.Tensor, layer: Layer, num_tokens: int
) -> c.Plan:
    """The plan for inference with these weights on num_tokens tokens of their dtype, one slot each:
    what a report is about. Raises what _library.Plan raises."""
    device = gate_up.device.index if gate_up.is_cuda else None
    hidden = down.shape[2] if layer.transposed else down.shape[1]
    return _plan(
        _Key(
            layer=layer.text,
            device=device,
            num_experts=gate_up.shape[0],
            top_k=1,
            hidden=hidden,
            inter=inter_size(gate_up, layer),
            max_tokens=num_tokens,
            compute_dtype=gate_up.dtype,
            weight_dtype=gate_up.dtype,
            index_dtype=torch.int64,
            route_weights_dtype=torch.float32,
            gate_up_bias=False,
            down_bias=False,
            aligned_weights=_aligned(gate_up) and _aligned(down),
            ranks=(0, 0),
            scales=(1.0, 1.0),
            lora_dtypes=(torch.float32, torch.float32),
            wanted=0,
            packed=False,
        )
    )


@functools.lru_cache(maxsize=4096)
def _plan(key: _Key) -> c.Plan:
    layer = Layer.from_text(key.layer)
    r = c.sized(c.Request)
    r.implementation = layer.implementation.encode()
    if key.device is not None:
        r.device, r.cuda_device = c.CUDA, key.device
    r.num_experts, r.top_k, r.hidden, r.inter = key.num_experts, key.top_k, key.hidden, key.inter
    r.max_tokens = key.max_tokens
    r.compute_dtype = dtype_code("hidden_states", key.compute_dtype)
    r.weight_dtype = dtype_code("weights", key.weight_dtype)
    r.index_dtype = dtype_code("top_k_index", key.index_dtype)
    r.route_weights_dtype = dtype_code("top_k_weights", key.route_weights_dtype)
    r.d_output_dtype = r.compute_dtype
    r.gate_up_layout = c.INTERLEAVED if layer.interleaved else c.CONCATENATED
    r.transposed = layer.transposed
    r.gate_up_bias, r.down_bias = key.gate_up_bias, key.down_bias
    r.aligned_weights = key.aligned_weights
    r.packed_weights = key.packed
    layer.fill(r.activation)
    lora_dtypes = [dtype_code("LoRA factors", dtype) for dtype in key.lora_dtypes]
    if r.compute_dtype == c.F64:  # without LoRA its dtype has no effect, but must agree
        lora_dtypes = [c.F64 if not rank else d for rank, d in zip(key.ranks, lora_dtypes)]
    r.gate_up_lora = c.Lora(key.ranks[0], key.scales[0], lora_dtypes[0])
    r.down_lora = c.Lora(key.ranks[1], key.scales[1], lora_dtypes[1])
    own = (r.compute_dtype, r.route_weights_dtype, *[r.weight_dtype] * 4)
    own += (lora_dtypes[0],) * 2 + (lora_dtypes[1],) * 2
    for bit, (name, dtype) in enumerate(zip(c.GRADIENTS, own)):
        mode = c.OVERWRITE if key.wanted >> bit & 1 else c.NO_GRAD
        setattr(r, name, c.Gradient(mode, dtype))
    return c.Plan(r)


def saved_bound(
    num_tokens: int, top_k: int, width: int, ranks: tuple[int, int], element_size: int, wanted: int
) -> int:
    """Bytes that are kept between forward and backward: an upper bound that is linear in T.

    The library keeps at most h [T K, width] and the rank-r products, ranks rounded up to 16. A plan
    states the exact number; but a traced graph needs a formula of T alone.
    """
    if not wanted:
        return 0
    columns = width + sum((rank + 15) // 16 * 16 for rank in ranks)
    return num_tokens * top_k * columns * element_size + 256


class _PoolHolder:
    """One pool of threads for the process, as many as torch.get_num_threads() says."""

    def __init__(self):
        self._lock = threading.Lock()
        self._pool: c.Pool | None = None
        # A forked child has no threads of its parent's: it starts a pool of its own.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self):
        if self._pool is not None:
            self._pool.handle = None  # joining threads that do not exist would wait for ever
        self._pool, self._lock = None, threading.Lock()

    def get(self) -> c.Pool:
        count = torch.get_num_threads()
        with self._lock:
            if self._pool is None or self._pool.num_threads != count:
                self._pool = c.Pool(count)
            return self._pool


class _Scratch(threading.local):
    """A thread's working memory on the CPU, kept from call to call: fresh pages cost as much as a
    small layer. It grows to the largest call so far; `release_scratch` gives it back."""

    buffer: torch.Tensor | None = None


pool_holder = _PoolHolder()
_scratch = _Scratch()


def scratch(num_bytes: int, device: torch.device) -> torch.Tensor:
    """A uint8 buffer of at least num_bytes that is free again when the call's work has run."""
    if device.type != "cpu":
        return torch.empty(num_bytes, dtype=torch.uint8, device=device)
    if _scratch.buffer is None or _scratch.buffer.numel() < num_bytes:
        _scratch.buffer = None
        _scratch.buffer = torch.empty(num_bytes, dtype=torch.uint8)
    return _scratch.buffer


def release_scratch() -> None:
    """Frees this thread's working memory on the CPU; the next call takes it anew."""
    _scratch.buffer = None
