// SPDX-License-Identifier: Apache-2.0
// scattermoe's half for NVIDIA GPUs: what it takes, what it needs.
#include "core/text.h"
#include "cuda/device.h"
#include "experts/cuda/passes.h"
#include "experts/cuda/workspace.h"
#include "experts/implementation.h"
#include "experts/routing.h"
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

Refusal refuses(const ExpertsRequest& request) {
  if (request.compute_dtype == DType::kF64 || request.weight_dtype == DType::kF64) {
    return "computes in f32 or bf16, not in double";
  }
  if (request.double_sums) return "its sums are f32; double_sums is for eager";
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

std::string describe(const ExpertsRequest& request) {
  const cuda::DeviceList list = cuda::list_devices();
  const cuda::DeviceInfo* device = find_device(list, request.cuda_device);
  const std::string where = device == nullptr ? "" : str(" on ", device->name);
  if (on_tensor_cores(request, true)) {
    return str("bf16 tensor-core tiles (mma.sync)", where, ", gather inside the products");
  }
  return str("f32 tiles without tensor cores", where, ", gather inside the products");
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens) {
  ExpertsSizes result;
  Carver forward, backward;
  Work::forward(forward, request, num_tokens);
  result.forward_scratch_bytes = forward.used();
  if (!request.wanted.any()) return result;
  Work::backward(backward, request, num_tokens);
  result.backward_scratch_bytes = backward.used();
  result.saved_bytes = SavedState::bytes(request, row_capacity(request, num_tokens));
  return result;
}

}  // namespace

const CudaImplementation kScattermoe = {.refuses = refuses,
                                        .describe = describe,
                                        .sizes = sizes,
                                        .forward = run_forward,
                                        .backward = run_backward};

}  // namespace moesmith::experts::on_cuda
