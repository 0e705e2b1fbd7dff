// SPDX-License-Identifier: Apache-2.0
// dx = dh W1 + v1 A1, one row for each slot; k runs over the gates, then over the ups, or over both
// as they lie beside each other.
#include "kernels/cuda/sm90/plain_products.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

void d_hidden(const DHiddenArgs& args, cudaStream_t stream) {
  const bool transposed = args.layout != Layout::kOutIn;
  const bool adjacent = args.layout == Layout::kInOutAdjacent && args.gated;
  const int pairs = args.gated && !adjacent ? 2 : 1;
  const std::int64_t depth = adjacent ? 2 * args.inter : args.inter;
  Product product{.name = "d_hidden",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.hidden,
                  .depth = depth,
                  .k_pairs = pairs,
                  .contiguous = args.dh};
  const std::int64_t experts = args.rows.num_experts, rank = args.low_rank.rank;
  const std::int64_t size = args.hidden * rank;
  const void* factor = args.low_rank.factor;
  if (transposed) {
    product.b = {"W1", args.weights, args.hidden, depth, pairs, experts};
    product.factor_b = {"A1", {factor, rank, size, size}, args.hidden, rank, 1, experts};
  } else {
    product.b = {"W1", args.weights, depth, args.hidden, pairs, experts};
    product.factor_b = {"A1", {factor, args.hidden, size, size}, rank, args.hidden, 1, experts};
  }
  product.tile = chosen(args.tile, product, false);
  const StoreEpilogue::Params epilogue{static_cast<__nv_bfloat16*>(args.dx), nullptr,
                                       static_cast<int>(args.hidden)};
  if (transposed) {
    launch_plain_k_major(product, epilogue, stream);
  } else {
    launch_plain_mn_major(product, epilogue, stream);
  }
}

}  // namespace moesmith::kernels::sm90
