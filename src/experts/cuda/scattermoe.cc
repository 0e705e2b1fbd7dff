// SPDX-License-Identifier: Apache-2.0
// scattermoe's half for NVIDIA GPUs: what it takes, what it needs.
#include "core/text.h"
#include "experts/cuda/limits.h"
#include "experts/cuda/passes.h"
#include "experts/cuda/workspace.h"
#include "experts/implementation.h"
#include "experts/routing.h"

namespace moesmith::experts::on_cuda {
namespace {

std::string describe(const ExpertsRequest& request) {
  return str(on_tensor_cores(request, true) ? "bf16 tensor-core tiles (mma.sync)"
                                            : "f32 tiles without tensor cores",
             on_device(request), ", gather inside the products");
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

const CudaImplementation kScattermoe = {.refuses = beyond_common_limits,
                                        .describe = describe,
                                        .sizes = sizes,
                                        .forward = run_forward,
                                        .backward = run_backward};

}  // namespace moesmith::experts::on_cuda
