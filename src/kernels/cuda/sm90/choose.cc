// SPDX-License-Identifier: Apache-2.0
// Which shapes these kernels take, and how they are cut: pure functions of sizes.
#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

std::string refusal(const Shape& shape) {
  const auto not_by_8 = [](const char* what, std::int64_t size) {
    return std::string(what) + " is " + std::to_string(size) + ", expected a multiple of 8";
  };
  if (shape.hidden % 8 != 0) return not_by_8("hidden size", shape.hidden);
  if (shape.inter % 8 != 0) return not_by_8("intermediate size", shape.inter);
  if (shape.max_tokens * shape.top_k >= (std::int64_t{1} << 31)) {
    return "tokens * top_k is " + std::to_string(shape.max_tokens * shape.top_k) +
           ", expected less than 2^31";
  }
  if (shape.max_tokens * shape.hidden / 8 >= (std::int64_t{1} << 32) - 1) {
    return "tokens * hidden is " + std::to_string(shape.max_tokens * shape.hidden) +
           ", expected less than 2^35";
  }
  const std::int64_t widest = std::max((shape.gated ? 2 : 1) * shape.inter, shape.hidden);
  if (shape.max_tokens * shape.top_k * widest / 8 >= (std::int64_t{1} << 32) - 1) {
    return "tokens * top_k * width is " + std::to_string(shape.max_tokens * shape.top_k * widest) +
           ", expected less than 2^35";
  }
  return "";
}

std::string refusal(const Weights& weights) {
  const auto address = reinterpret_cast<std::uintptr_t>(weights.base);
  if (address % 16 != 0) return "a weight's address is not a multiple of 16 bytes";
  if (weights.row_stride % 8 != 0 || weights.pair_stride % 8 != 0 ||
      weights.expert_stride % 8 != 0) {
    return "a weight's stride is not a multiple of 16 bytes";
  }
  if (weights.span / 8 >= (std::int64_t{1} << 31)) {
    return "the experts' weights are further than 32 GiB from each other";
  }
  return "";
}

std::int64_t d_activation_parts(std::int64_t inter) { return (inter + 127) / 128; }

TileChoice choose_tile(std::int64_t max_rows,
                       std::int64_t num_experts,
                       std::int64_t cols,
                       std::int64_t depth,
                       bool gathered) {
  static_cast<void>(depth);
  TileChoice choice;
  const std::int64_t padded_256 = (cols + 255) / 256 * 256, padded_192 = (cols + 191) / 192 * 192;
  choice.cols = padded_192 < padded_256 ? 192 : 256;
  choice.cluster = max_rows / num_experts >= 2048 ? 2 : 1;
  // Gathered rows are read again for each column tile: a group no larger than an expert keeps them
  // in L2.
  const std::int64_t expert_tiles = (max_rows / num_experts + kTileRows - 1) / kTileRows;
  choice.group = gathered ? static_cast<int>(std::clamp<std::int64_t>(expert_tiles, 4, 16)) : 16;
  return choice;
}

}  // namespace moesmith::kernels::sm90
