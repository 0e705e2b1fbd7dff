// SPDX-License-Identifier: Apache-2.0
// The row of the table: rows sorted by expert, one library product per group of rows, un-sorted.
#include "core/text.h"
#include "experts/grouped_mm/passes.h"
#include "experts/grouped_mm/product.h"
#include "experts/implementation.h"
#include "experts/sizes.h"

namespace moesmith::experts::grouped_mm {

Refusal refuses(const ExpertsRequest& request) {
  if (request.device != Device::kCpu) return "runs on the CPU only";
  if (const std::string missing = onednn_missing(); !missing.empty()) return missing;
  if (request.compute_dtype == DType::kF64) return "computes in f32 or bf16, not in double";
  if (request.double_sums) return "its sums are f32; double_sums is for eager";
  return std::nullopt;
}

std::string describe(const ExpertsRequest& request) {
  std::string text = str(onednn_version(), ", one product per 256 rows of an expert");
  const bool bf16_operands = request.compute_dtype == DType::kBF16;
  const bool mixed = request.compute_dtype != request.weight_dtype;
  if (mixed || (bf16_operands && !multiplies_bf16())) {
    text += mixed ? ", tiles widened to f32 because activations and weights differ in dtype"
                  : ", tiles widened to f32 without AVX512-BF16";
  }
  return text;
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads) {
  return sizes_by_carving(
      request, num_tokens,
      [&]<class T>(Carver& carver) {
        ForwardWork<T>::carve(carver, request, num_tokens, num_threads);
      },
      [&]<class T>(Carver& carver) {
        BackwardWork<T>::carve(carver, request, num_tokens, num_threads);
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

}  // namespace moesmith::experts::grouped_mm
