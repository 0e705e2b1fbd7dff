// SPDX-License-Identifier: Apache-2.0
// sonicmoe: what it takes, what it needs.
#include "experts/cuda/sonicmoe.h"

#include "core/text.h"
#include "cuda/device.h"
#include "experts/cuda/sonicmoe_layer.h"
#include "experts/implementation.h"
#include "experts/routing.h"
#include "kernels/cuda/common/routing.h"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::experts::on_cuda {
namespace {

Refusal refuses(const ExpertsRequest& request) {
  const cuda::DeviceList list = cuda::list_devices();
  if (list.devices.empty()) return str("needs a Hopper GPU (sm_90a): ", list.why_empty);
  const cuda::DeviceInfo* device = nullptr;
  for (const cuda::DeviceInfo& one : list.devices) {
    if (one.index == request.cuda_device) device = &one;
  }
  if (device == nullptr) return str("there is no CUDA device ", request.cuda_device);
  if (device->compute_major != 9 || device->compute_minor != 0) {
    return str("needs a Hopper GPU (sm_90a); ", device->name, " is sm_", device->compute_major,
               device->compute_minor);
  }
  if (request.compute_dtype != DType::kBF16 || request.weight_dtype != DType::kBF16) {
    return str("computes in bf16 on bf16 weights; got ", dtype_name(request.compute_dtype), " on ",
               dtype_name(request.weight_dtype));
  }
  if (request.double_sums) return "its sums are f32; double_sums is for eager";
  if (!request.aligned_weights) {
    return "needs weights whose addresses and row strides are multiples of 16 bytes "
           "(aligned_weights)";
  }
  if (request.num_experts > kernels::gpu::kMaxExperts) {
    return str("takes at most ", kernels::gpu::kMaxExperts, " experts, got ", request.num_experts);
  }
  if (request.max_rows > 0 && request.max_rows < request.max_tokens * request.top_k) {
    return "takes no capacity below max_tokens * top_k";
  }
  if (!request.transposed && request.activation.gated &&
      request.gate_up_layout == GateUpLayout::kInterleaved &&
      request.wanted.gate_up_bias.wanted()) {
    return "gives no gradient of an interleaved gate_up bias";
  }
  std::string why = kernels::sm90::refusal({.num_experts = request.num_experts,
                                            .top_k = request.top_k,
                                            .hidden = request.hidden,
                                            .inter = request.inter,
                                            .max_tokens = request.max_tokens,
                                            .gated = request.activation.gated});
  if (!why.empty()) return why;
  return std::nullopt;
}

std::string describe(const ExpertsRequest& request) {
  for (const cuda::DeviceInfo& device : cuda::list_devices().devices) {
    if (device.index == request.cuda_device) {
      return str("wgmma and TMA tiles on ", device.name, ", gather, activation and LoRA inside");
    }
  }
  return "wgmma and TMA tiles";
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens) {
  ExpertsSizes result;
  Carver forward, backward;
  SonicWork::forward(forward, request, num_tokens);
  result.forward_scratch_bytes = forward.used();
  if (!request.wanted.any()) return result;
  SonicWork::backward(backward, request, num_tokens);
  result.backward_scratch_bytes = backward.used();
  result.saved_bytes = SavedState::bytes(request, row_capacity(request, num_tokens));
  return result;
}

}  // namespace

const CudaImplementation kSonicmoe = {.refuses = refuses,
                                      .describe = describe,
                                      .sizes = sizes,
                                      .forward = sonic_forward,
                                      .backward = sonic_backward};

}  // namespace moesmith::experts::on_cuda
