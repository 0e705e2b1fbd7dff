# SPDX-License-Identifier: Apache-2.0
"""The C functions of `moesmith/c_api.h` by ctypes: structs, functions, errors.

Torch is not imported here. The structs repeat the header field by field; the library refuses one of
another size (`struct_bytes`), so a mismatch is an error and never a misread.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_uint32, c_void_p

ABI_VERSION = 2

CPU, CUDA = 0, 1
F32, BF16, F64, I64, I32 = 0, 1, 2, 10, 11
NO_GRAD, OVERWRITE = 0, 1
CONCATENATED, INTERLEAVED = 0, 1
ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "relu2": 4}


class MoesmithError(RuntimeError):
    """What the library reports, in its own words: `<where>: <what>, got <x>, expected <y>`."""


class InvalidInputError(MoesmithError, ValueError):
    """A request or call that contradicts itself."""


class UnsupportedError(MoesmithError, NotImplementedError):
    """A well-formed request that no implementation takes; the text has each one's reason."""


class OutOfMemoryError(MoesmithError, MemoryError):
    """The library could not get the memory it needs."""


_ERRORS = {1: InvalidInputError, 3: UnsupportedError, 4: OutOfMemoryError}


class Lora(ctypes.Structure):
    _fields_ = [("lora_rank", c_int64), ("lora_scale", c_float), ("dtype", c_int32)]


class Gradient(ctypes.Structure):
    _fields_ = [("mode", c_int32), ("dtype", c_int32)]


class Activation(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("gated", c_int32),
        ("has_gate_max", c_int32),
        ("has_up_limit", c_int32),
        ("gate_max", c_float),
        ("up_limit", c_float),
        ("alpha", c_float),
        ("up_shift", c_float),
    ]


# In the order in which the bits of `wanted` and every list of gradients name them.
GRADIENTS = (
    "d_hidden",
    "d_top_k_weights",
    "d_gate_up",
    "d_down",
    "d_gate_up_bias",
    "d_down_bias",
    "d_gate_up_a",
    "d_gate_up_b",
    "d_down_a",
    "d_down_b",
)


class Request(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint32),
        ("device", c_int32),
        ("cuda_device", c_int32),
        ("expert_parallel", c_int32),
        ("implementation", c_char_p),
        ("num_experts", c_int64),
        ("top_k", c_int64),
        ("hidden", c_int64),
        ("inter", c_int64),
        ("max_tokens", c_int64),
        ("max_rows", c_int64),
        ("compute_dtype", c_int32),
        ("weight_dtype", c_int32),
        ("index_dtype", c_int32),
        ("route_weights_dtype", c_int32),
        ("d_output_dtype", c_int32),
        ("gate_up_layout", c_int32),
        ("transposed", c_int32),
        ("gate_up_bias", c_int32),
        ("down_bias", c_int32),
        ("aligned_weights", c_int32),
        ("recompute_h", c_int32),
        ("double_sums", c_int32),
        ("packed_weights", c_int32),
        ("reserved", c_int32),
        ("activation", Activation),
        ("gate_up_lora", Lora),
        ("down_lora", Lora),
        *[(name, Gradient) for name in GRADIENTS],
    ]


class Projection(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("base", c_void_p),
        ("expert_stride", c_int64),
        ("row_stride", c_int64),
    ]


class Inputs(ctypes.Structure):
    _fields_ = [
        ("num_tokens", c_int64),
        ("hidden", c_void_p),
        ("top_k_index", c_void_p),
        ("top_k_weights", c_void_p),
        ("gate_up", Projection),
        ("up", Projection),
        ("down", Projection),
        ("gate_up_bias", c_void_p),
        ("down_bias", c_void_p),
        ("gate_up_a", c_void_p),
        ("gate_up_b", c_void_p),
        ("down_a", c_void_p),
        ("down_b", c_void_p),
        ("packed", c_void_p),
        ("packed_bytes", c_int64),
    ]


class PackArgs(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint32),
        ("reserved", c_uint32),
        ("gate_up", Projection),
        ("up", Projection),
        ("down", Projection),
        ("packed", c_void_p),
        ("packed_bytes", c_int64),
    ]


class ForwardArgs(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint32),
        ("reserved", c_uint32),
        ("inputs", Inputs),
        ("output", c_void_p),
        ("saved", c_void_p),
        ("scratch", c_void_p),
        ("saved_bytes", c_int64),
        ("scratch_bytes", c_int64),
    ]


class BackwardArgs(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint32),
        ("reserved", c_uint32),
        ("inputs", Inputs),
        ("d_output", c_void_p),
        ("saved", c_void_p),
        ("scratch", c_void_p),
        ("saved_bytes", c_int64),
        ("scratch_bytes", c_int64),
        *[(name, c_void_p) for name in GRADIENTS],
    ]


class Sizes(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint32),
        ("reserved", c_uint32),
        ("saved_bytes", c_int64),
        ("forward_scratch_bytes", c_int64),
        ("backward_scratch_bytes", c_int64),
    ]


def sized(struct: type[ctypes.Structure]) -> ctypes.Structure:
    """A zeroed struct that knows its own size."""
    value = struct()
    value.struct_bytes = ctypes.sizeof(struct)
    return value


def library_path() -> pathlib.Path:
    """Where the shared library lies: beside this file, or what $MOESMITH_LIBRARY names."""
    named = os.environ.get("MOESMITH_LIBRARY")
    return pathlib.Path(named) if named else pathlib.Path(__file__).with_name("libmoesmith_c.so")


def _load() -> ctypes.CDLL:
    path = library_path()
    if not path.is_file():
        raise ImportError(
            f"moesmith: {path} is not there: install the package (`pip install .` builds it), "
            "or name a built library in $MOESMITH_LIBRARY"
        )
    # RTLD_LOCAL, and no symbols but its own: it meets no other library of the process.
    try:
        loaded = ctypes.CDLL(str(path))
        loaded.moesmith_abi_version.restype = c_int32
        found = loaded.moesmith_abi_version()
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"moesmith: {path} is not a library of this package for this machine ({error}): "
            "install the package anew (`pip install .` builds it)"
        ) from None
    if found != ABI_VERSION:
        raise ImportError(
            f"moesmith: {path}: got ABI version {found}, expected {ABI_VERSION}: library and "
            "Python files differ in version; install the package anew (`pip install .`)"
        )
    signatures = {
        "moesmith_version": (c_char_p, []),
        "moesmith_has_cuda": (c_int32, []),
        "moesmith_last_error": (c_char_p, []),
        "moesmith_pool_create": (c_int32, [c_int32, POINTER(c_void_p)]),
        "moesmith_pool_destroy": (None, [c_void_p]),
        "moesmith_pool_num_threads": (c_int32, [c_void_p]),
        "moesmith_plan_create": (c_int32, [POINTER(Request), POINTER(c_void_p)]),
        "moesmith_plan_destroy": (None, [c_void_p]),
        "moesmith_plan_implementation": (c_char_p, [c_void_p]),
        "moesmith_plan_text": (c_char_p, [c_void_p]),
        "moesmith_plan_sizes": (c_int32, [c_void_p, c_int64, c_int32, POINTER(Sizes)]),
        "moesmith_plan_packed_bytes": (c_int64, [c_void_p]),
        "moesmith_pack": (c_int32, [c_void_p, POINTER(PackArgs), c_void_p]),
        "moesmith_forward": (c_int32, [c_void_p, POINTER(ForwardArgs), c_void_p]),
        "moesmith_backward": (c_int32, [c_void_p, POINTER(BackwardArgs), c_void_p]),
        "moesmith_forward_cuda": (c_int32, [c_void_p, POINTER(ForwardArgs), c_int32, c_void_p]),
        "moesmith_backward_cuda": (c_int32, [c_void_p, POINTER(BackwardArgs), c_int32, c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


lib = _load()


def check(status: int) -> None:
    """Raises what the last call of this thread reported, unless it succeeded."""
    if status:
        text = lib.moesmith_last_error().decode(errors="replace")
        raise _ERRORS.get(status, MoesmithError)(text)


def version() -> str:
    """The library's version, such as "0.1.0"."""
    return lib.moesmith_version().decode()


def has_cuda() -> bool:
    """Whether the library was built with its CUDA parts."""
    return bool(lib.moesmith_has_cuda())


class Pool:
    """A fixed set of threads of the library; freed with the object."""

    def __init__(self, num_threads: int):
        self.handle = c_void_p()
        check(lib.moesmith_pool_create(num_threads, ctypes.byref(self.handle)))
        self.num_threads = lib.moesmith_pool_num_threads(self.handle)

    def __del__(self):
        if self.handle:
            lib.moesmith_pool_destroy(self.handle)


class Plan:
    """One implementation bound to one request; freed with the object.

    Raises InvalidInputError for a request that contradicts itself and UnsupportedError, naming
    every implementation with its reason, for one that nothing takes.
    """

    def __init__(self, request: Request):
        self.handle = c_void_p()
        check(lib.moesmith_plan_create(ctypes.byref(request), ctypes.byref(self.handle)))
        self.implementation = lib.moesmith_plan_implementation(self.handle).decode()
        self.text = lib.moesmith_plan_text(self.handle).decode()
        self.packed_bytes = lib.moesmith_plan_packed_bytes(self.handle)
        self._sizes: dict[tuple[int, int], tuple[int, int, int]] = {}

    def __del__(self):
        if self.handle:
            lib.moesmith_plan_destroy(self.handle)

    def sizes(self, num_tokens: int, num_threads: int) -> tuple[int, int, int]:
        """Bytes of (saved, forward scratch, backward scratch) for calls of up to num_tokens."""
        known = self._sizes.get((num_tokens, num_threads))
        if known is None:
            sizes = sized(Sizes)
            check(
                lib.moesmith_plan_sizes(self.handle, num_tokens, num_threads, ctypes.byref(sizes))
            )
            known = sizes.saved_bytes, sizes.forward_scratch_bytes, sizes.backward_scratch_bytes
            if len(self._sizes) >= 1024:  # every length of a sequence once: start again
                self._sizes.clear()
            self._sizes[num_tokens, num_threads] = known
        return known
