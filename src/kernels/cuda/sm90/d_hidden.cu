// SPDX-License-Identifier: Apache-2.0
// dx = dh W1 + v1 A1, one row for each slot; k runs over the gates, then over the ups.
#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/launch.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

void d_hidden(const DHiddenArgs& args, cudaStream_t stream) {
  const int pairs = args.gated ? 2 : 1;
  Product product{.name = "d_hidden",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.hidden,
                  .depth = args.inter,
                  .k_pairs = pairs,
                  .contiguous = args.dh};
  product.b = {"W1", args.weights, args.inter, args.hidden, pairs, args.rows.num_experts};
  const std::int64_t rank = args.low_rank.rank;
  product.factor_b = {
      "A1", {args.low_rank.factor, args.hidden, args.hidden * rank, args.hidden * rank},
      rank, args.hidden,
      1,    args.rows.num_experts};
  product.tile = chosen(args.tile, product, false);
  const StoreEpilogue::Params epilogue{static_cast<__nv_bfloat16*>(args.dx), nullptr,
                                       static_cast<int>(args.hidden)};
  if (product.tile.cols == 192) {
    launch_product<192, Major::kMn, false, StoreEpilogue>(product, epilogue, stream);
  } else {
    launch_product<256, Major::kMn, false, StoreEpilogue>(product, epilogue, stream);
  }
}

}  // namespace moesmith::kernels::sm90
