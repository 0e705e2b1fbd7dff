# SPDX-License-Identifier: Apache-2.0
"""Copies of frozen weights in the order in which the CPU's kernels read them, kept between calls.

Results stay the same to the bit; packing the weights at each call costs about a tenth of a layer's
time. The copies take once the weights' memory for inference, twice for training, so that they are
made only where memory allows.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import threading

import torch

from . import _library as c
from ._plans import Tensors, plan_of, pool_holder

_MODES = {"auto": "auto", "true": True, "false": False}
_SAMPLES = 8  # rows, and columns, of each expert that are compared at each call
_FROZEN = 0b1100  # the bits of `wanted` that mean gate_up and down


def _mode_of(value, where: str):
    mode = _MODES.get(str(value).lower())
    if mode is None:
        raise c.InvalidInputError(f"moesmith: {where}: got {value!r}, expected auto, true or false")
    return mode


_mode = _mode_of(os.environ.get("MOESMITH_PACK_EXPERTS", "auto"), "$MOESMITH_PACK_EXPERTS")


def pack_experts(mode: str | bool) -> None:
    """Whether frozen experts are packed once, on the CPU.

    "auto" (the default; $MOESMITH_PACK_EXPERTS says another): a layer's are from its second call
    on, as long as half of the machine's memory stays available. True: always, at the first call.
    False: never; copies that were made go at each layer's next call.
    """
    global _mode
    _mode = _mode_of(mode, "pack_experts")


def _number(path: str) -> int | None:
    try:
        return int(pathlib.Path(path).read_text())
    except (OSError, ValueError):  # no such control group, or "max"
        return None


def memory() -> tuple[int, int]:
    """(available, total) bytes, within the control group's limit."""
    fields = {}
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    available, total = fields["MemAvailable"], fields["MemTotal"]
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and limit < total:
        available, total = min(available, limit - used), limit
    return available, total


def _sample(weight: torch.Tensor) -> torch.Tensor:
    """A few elements of each expert, as bits: NaN equals NaN."""
    rows, columns = (max(1, size // _SAMPLES) for size in weight.shape[1:])
    some = weight[:, ::rows, ::columns].contiguous()
    return some.view(torch.int16 if some.element_size() == 2 else torch.int32)


def _version(weight: torch.Tensor) -> int:
    return 0 if weight.is_inference() else weight._version  # inference tensors count no writes


class PackedWeights:
    """Where one layer's copies are kept; `moesmith.experts(..., packs=...)` fills and reads them.

    They are made again when a weight is another tensor or was written to: storage, version and a
    sample of each expert's elements are compared at each call. A copy of this object is empty.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._forget()

    def __deepcopy__(self, _memo):
        return PackedWeights()

    def __reduce__(self):
        return PackedWeights, ()

    def _forget(self) -> None:
        self._key, self._calls, self._buffer, self._samples = None, 0, None, ()

    def release(self) -> None:
        """Frees the copies."""
        with self._lock:
            self._forget()

    def nbytes(self) -> int:
        """Bytes that the copies take now."""
        buffer = self._buffer
        return 0 if buffer is None else buffer.numel()

    def of(
        self, tensors: Tensors, layer_text: str, scales: tuple[float, float], wanted: int
    ) -> torch.Tensor | None:
        """The copies for this call, made if they are worth it; None: the weights are read."""
        if _mode is False or wanted & _FROZEN or tensors.hidden.device.type != "cpu":
            if self._key is not None:
                self.release()
            return None
        plan = plan_of(tensors, layer_text, scales, wanted, packed=True)
        if plan.packed_bytes == 0:  # this implementation reads weights as they lie
            return None
        with self._lock, torch.no_grad():
            return self._current(plan, tensors, layer_text)

    def _current(self, plan: c.Plan, tensors: Tensors, layer_text: str) -> torch.Tensor | None:
        weights = (tensors.gate_up, tensors.down)
        key = (
            layer_text,
            tensors.hidden.dtype,
            *[(w.data_ptr(), _version(w), w.dtype, w.shape, w.stride()) for w in weights],
        )
        if key != self._key or not all(
            torch.equal(_sample(w), old) for w, old in zip(weights, self._samples)
        ):
            self._forget()
            self._key = key
        self._calls += 1
        if self._buffer is not None and self._buffer.numel() >= plan.packed_bytes:
            return self._buffer  # what training needs begins with what inference needs
        if _mode == "auto" and (self._calls < 2 or not self._fits(plan.packed_bytes)):
            return None
        self._buffer = None
        self._buffer = self._packed(plan, weights)
        self._samples = tuple(_sample(w) for w in weights)
        return self._buffer

    def _fits(self, num_bytes: int) -> bool:
        available, total = memory()
        return available + self.nbytes() - num_bytes >= total // 2

    @staticmethod
    def _packed(plan: c.Plan, weights) -> torch.Tensor:
        buffer = torch.empty(plan.packed_bytes, dtype=torch.uint8)
        gate_up, down = ((w.data_ptr(), None, w.stride(0), w.stride(1)) for w in weights)
        nothing = (None, None, 0, 0)
        size = ctypes.sizeof(c.PackArgs)
        args = c.PackArgs(size, 0, gate_up, nothing, down, buffer.data_ptr(), buffer.numel())
        c.check(c.lib.moesmith_pack(plan.handle, args, pool_holder.get().handle))
        return buffer
