// SPDX-License-Identifier: Apache-2.0
#include "experts/cuda/limits.h"

#include "core/checked.h"
#include "core/text.h"
#include "kernels/cuda/common/routing.h"

namespace moesmith::experts::on_cuda {
namespace {

constexpr std::int64_t kMost = 0x7fffffff;

const cuda::DeviceInfo* find_device(const cuda::DeviceList& list, int index) {
  for (const cuda::DeviceInfo& device : list.devices) {
    if (device.index == index) return &device;
  }
  return nullptr;
}

}  // namespace

Refusal beyond_common_limits(const ExpertsRequest& request) {
  if (request.compute_dtype == DType::kF64 || request.weight_dtype == DType::kF64) {
    return "computes in f32 or bf16, not in double";
  }
  if (request.double_sums) return "its sums are f32; double_sums is for eager on the CPU";
  if (request.num_experts > kernels::gpu::kMaxExperts) {
    return str("takes at most ", kernels::gpu::kMaxExperts, " experts, got ", request.num_experts);
  }
  if (checked_mul(request.max_tokens, request.top_k) > kMost) {
    return str("takes at most ", kMost, " slots (max_tokens * top_k)");
  }
  if (request.hidden > kMost / 2 || request.inter > kMost / 4) {
    return str("takes hidden and inter that fit 32 bits, got ", request.hidden, " and ",
               request.inter);
  }
  const cuda::DeviceList list = cuda::list_devices();
  if (list.devices.empty()) return str("needs an NVIDIA GPU: ", list.why_empty);
  const cuda::DeviceInfo* device = find_device(list, request.cuda_device);
  if (device == nullptr) return str("there is no CUDA device ", request.cuda_device);
  if (device->compute_major < 8) {
    return str("needs sm_80 or newer; ", device->name, " is sm_", device->compute_major,
               device->compute_minor);
  }
  return std::nullopt;
}

Refusal mixes_dtypes(const ExpertsRequest& request) {
  if (request.compute_dtype == request.weight_dtype) return std::nullopt;
  return str("multiplies values of one dtype, got ", dtype_name(request.compute_dtype), " and ",
             dtype_name(request.weight_dtype), " weights");
}

std::string on_device(const ExpertsRequest& request) {
  const cuda::DeviceList list = cuda::list_devices();
  const cuda::DeviceInfo* device = find_device(list, request.cuda_device);
  return device == nullptr ? "" : str(" on ", device->name);
}

}  // namespace moesmith::experts::on_cuda
