// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {
namespace {

using Encode = CUresult (*)(CUtensorMap*,
                            CUtensorMapDataType,
                            cuuint32_t,
                            void*,
                            const cuuint64_t*,
                            const cuuint64_t*,
                            const cuuint32_t*,
                            const cuuint32_t*,
                            CUtensorMapInterleave,
                            CUtensorMapSwizzle,
                            CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);

Encode find_encode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<Encode>(entry);
}

}  // namespace

CUtensorMap encode(const TensorMapSpec& spec) {
  static const Encode encode_tiled = find_encode();
  if (encode_tiled == nullptr) {
    throw Error(
        ErrorCode::kUnsupported,
        "sonicmoe: the NVIDIA driver has no tensor maps, expected one for CUDA 12 or newer");
  }
  cuuint64_t sizes[4], strides[4];
  cuuint32_t boxes[4], ones[4] = {1, 1, 1, 1};
  for (int i = 0; i < spec.dims; ++i) {
    sizes[i] = static_cast<cuuint64_t>(spec.size[i]);
    boxes[i] = spec.box[i];
    if (i > 0) strides[i - 1] = static_cast<cuuint64_t>(spec.stride[i]) * 2;
  }
  CUtensorMap map;
  const CUresult result =
      encode_tiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(spec.dims),
                   const_cast<void*>(spec.base), sizes, strides, boxes, ones,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    std::string sizes_text;
    for (int i = 0; i < spec.dims; ++i) {
      sizes_text += " " + std::to_string(spec.size[i]) + "@" + std::to_string(spec.stride[i]);
    }
    throw Error(ErrorCode::kInternal,
                std::string("sonicmoe: tensor map of ") + spec.what + ": the driver answers " +
                    std::to_string(static_cast<int>(result)) + ", got" + sizes_text);
  }
  return map;
}

}  // namespace moesmith::kernels::sm90
