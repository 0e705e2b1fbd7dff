// SPDX-License-Identifier: Apache-2.0
// dA' = dy[token] W2 + v2 A2, and at once <dA', a>, a and dh.
#include "kernels/cuda/sm90/activation_launch.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

template <bool kGated>
int run(const DActivationArgs& args, const Product& product, cudaStream_t stream) {
  using Epilogue = DActivationEpilogue<kGated>;
  typename Epilogue::Params epilogue{};
  epilogue.activation = args.activation;
  epilogue.h = static_cast<const __nv_bfloat16*>(args.h);
  epilogue.row_weight = args.rows.row_weight;
  epilogue.dh = static_cast<__nv_bfloat16*>(args.dh);
  epilogue.a = static_cast<__nv_bfloat16*>(args.a);
  epilogue.row_parts = args.row_parts;
  epilogue.inter = static_cast<int>(args.inter);
  epilogue.n_tiles = static_cast<int>((args.inter + product.tile.cols - 1) / product.tile.cols);
  if (product.tile.cols == 192) {
    launch_d_activation<kGated, 192>(epilogue, product, stream);
  } else {
    launch_d_activation<kGated, 256>(epilogue, product, stream);
  }
  return epilogue.n_tiles;
}

}  // namespace

int d_activation(const DActivationArgs& args, cudaStream_t stream) {
  Product product{.name = "d_activation",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.inter,
                  .depth = args.hidden,
                  .gathered = args.dy};
  product.b = {"W2", args.weights, args.hidden, args.inter, 1, args.rows.num_experts};
  const std::int64_t rank = args.low_rank.rank;
  product.factor_b = {
      "A2", {args.low_rank.factor, args.inter, args.inter * rank, args.inter * rank},
      rank, args.inter,
      1,    args.rows.num_experts};
  product.tile = chosen(args.tile, product, true);
  return args.activation.gated ? run<true>(args, product, stream)
                               : run<false>(args, product, stream);
}

}  // namespace moesmith::kernels::sm90
