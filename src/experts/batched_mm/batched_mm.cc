// SPDX-License-Identifier: Apache-2.0
// The row of the table: for a few tokens, a product per slot on weights that are read once, from
// where they lie.
#include "core/cpu_features.h"
#include "core/text.h"
#include "experts/batched_mm/passes.h"
#include "experts/implementation.h"
#include "experts/sizes.h"

namespace moesmith::experts::batched_mm {

Refusal refuses(const ExpertsRequest& request) {
  if (request.device != Device::kCpu) return "runs on the CPU only";
  if (request.compute_dtype == DType::kF64) return "computes in f32 or bf16, not in double";
  if (request.weight_dtype == DType::kF64) return "reads weights in f32 or bf16, not in double";
  if (request.double_sums) return "its sums are f32; double_sums is for eager";
  if (request.max_tokens > kMaxTokens) {
    return str("max_tokens ", request.max_tokens, " > ", kMaxTokens, ": it is for decoding");
  }
  return std::nullopt;
}

std::string describe(const ExpertsRequest&) {
  return str(isa_name(active_isa()),
             " inner products, the weights of each chosen expert read once");
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads) {
  return sizes_by_carving(
      request, num_tokens,
      [&]<class T>(Carver& carver) {
        Work<T>::carve_forward(carver, request, num_tokens, num_threads);
      },
      [&]<class T>(Carver& carver) {
        Work<T>::carve_backward(carver, request, num_tokens, num_threads);
      });
}

void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  if (request.compute_dtype == DType::kBF16) return run_forward<bf16>(request, args, pool);
  run_forward<float>(request, args, pool);
}

void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  if (request.compute_dtype == DType::kBF16) return run_backward<bf16>(request, args, pool);
  run_backward<float>(request, args, pool);
}

}  // namespace moesmith::experts::batched_mm
