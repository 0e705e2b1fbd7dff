// SPDX-License-Identifier: Apache-2.0
// The row of the table: gather and scatter inside the products, activation and LoRA in the same
// pass, on the register tiles of kernels/common/cpu.
#include <algorithm>

#include "core/cpu_features.h"
#include "core/text.h"
#include "experts/implementation.h"
#include "experts/scattermoe/passes.h"
#include "experts/sizes.h"

namespace moesmith::experts::scattermoe {

namespace {

const kernels::cpu::Tile& weight_tile(const ExpertsRequest& request) {
  return kernels::cpu::tile_for(active_isa(), request.compute_dtype, request.weight_dtype);
}

}  // namespace

Refusal refuses(const ExpertsRequest& request) {
  if (request.device != Device::kCpu) return "runs on the CPU only";
  if (request.compute_dtype == DType::kF64) return "computes in f32 or bf16, not in double";
  if (request.weight_dtype == DType::kF64) return "reads weights in f32 or bf16, not in double";
  if (request.double_sums) return "its sums are f32; double_sums is for eager";
  return std::nullopt;
}

std::string describe(const ExpertsRequest& request) {
  const kernels::cpu::Tile& tile = weight_tile(request);
  std::string text = str(isa_name(tile.level), " tiles of ", kernels::cpu::kTileRows, " x ",
                         tile.width(), ", gather and scatter inside the products");
  const bool widened = tile.operand == DType::kF32 && (request.compute_dtype == DType::kBF16 ||
                                                       request.weight_dtype == DType::kBF16);
  if (request.packed_weights) text += ", weights packed once";
  if (widened) text += ", bf16 widened to f32 as it is packed";
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

std::int64_t packed_bytes(const ExpertsRequest& request) {
  return PackedLayout(request, weight_tile(request)).bytes;
}

void pack(const ExpertsRequest& request,
          const ExpertsWeights& weights,
          std::span<std::byte> packed,
          ThreadPool& pool) {
  pack_weights(request, weights, weight_tile(request), packed.data(), pool);
}

}  // namespace moesmith::experts::scattermoe
