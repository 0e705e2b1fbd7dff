"""Writes mixed.safetensors: every element type that Moesmith knows, as the safetensors library 0.8.0 lays it out."""
import ctypes

import safetensors

SIZES = {"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "float32": 4, "int64": 8, "float64": 8}
tensors = {}
for number, (dtype, size) in enumerate(SIZES.items()):
    for name, shape in (("b", [2, 3]), ("a", []), ("none", [0, 2])):
        count = 1
        for dim in shape:
            count *= dim
        data = bytes((number + i) % 2 if dtype == "bool" else (7 * number + i) % 256 for i in range(count * size))
        tensors[f"layer.{name}.{number}"] = (dtype, shape, ctypes.create_string_buffer(data, len(data)))
tensors["größe \"q\""] = ("uint8", [1], ctypes.create_string_buffer(b"x", 1))
specs = {
    name: safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(data), data_len=len(data))
    for name, (dtype, shape, data) in tensors.items()
}
with open("mixed.safetensors", "wb") as file:
    file.write(safetensors.serialize(specs, metadata={"format": "pt"}))
