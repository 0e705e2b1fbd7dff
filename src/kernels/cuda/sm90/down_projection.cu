// SPDX-License-Identifier: Apache-2.0
// y = a W2^T + u2 B2^T + b2, one row for each slot.
#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/launch.cuh"
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
  product.b = {"W2", args.weights, args.hidden, args.inter, 1, args.rows.num_experts};
  const std::int64_t rank = args.low_rank.rank;
  product.factor_b = {
      "B2",        {args.low_rank.factor, rank, args.hidden * rank, args.hidden * rank},
      args.hidden, rank,
      1,           args.rows.num_experts};
  product.tile = chosen(args.tile, product, false);
  const StoreEpilogue::Params epilogue{static_cast<__nv_bfloat16*>(args.y),
                                       static_cast<const __nv_bfloat16*>(args.bias),
                                       static_cast<int>(args.hidden)};
  if (product.tile.cols == 192) {
    launch_product<192, Major::kK, false, StoreEpilogue>(product, epilogue, stream);
  } else {
    launch_product<256, Major::kK, false, StoreEpilogue>(product, epilogue, stream);
  }
}

}  // namespace moesmith::kernels::sm90
