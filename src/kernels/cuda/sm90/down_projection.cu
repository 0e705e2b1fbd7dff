// SPDX-License-Identifier: Apache-2.0
// y = a W2^T + u2 B2^T + b2, one row for each slot.
#include "kernels/cuda/sm90/plain_products.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

void down_projection(const DownArgs& args, cudaStream_t stream) {
  Product product{.name = "down_projection",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.hidden,
                  .depth = args.inter,
                  .contiguous = args.a};
  const std::int64_t experts = args.rows.num_experts, rank = args.low_rank.rank;
  const std::int64_t size = args.hidden * rank;
  const void* factor = args.low_rank.factor;
  if (args.transposed) {
    product.b = {"W2", args.weights, args.inter, args.hidden, 1, experts};
    product.factor_b = {"B2", {factor, args.hidden, size, size}, rank, args.hidden, 1, experts};
  } else {
    product.b = {"W2", args.weights, args.hidden, args.inter, 1, experts};
    product.factor_b = {"B2", {factor, rank, size, size}, args.hidden, rank, 1, experts};
  }
  product.tile = chosen(args.tile, product, false);
  const StoreEpilogue::Params epilogue{static_cast<__nv_bfloat16*>(args.y),
                                       static_cast<const __nv_bfloat16*>(args.bias),
                                       static_cast<int>(args.hidden)};
  if (args.transposed) {
    launch_plain_mn_major(product, epilogue, stream);
  } else {
    launch_plain_k_major(product, epilogue, stream);
  }
}

}  // namespace moesmith::kernels::sm90
