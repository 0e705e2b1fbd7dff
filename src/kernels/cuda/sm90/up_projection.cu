// SPDX-License-Identifier: Apache-2.0
// h = x[token] W1^T + u1 B1^T + b1 and a = act(h).
#include "kernels/cuda/sm90/activation_launch.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

template <bool kGated>
void run(const UpArgs& args, Product product, cudaStream_t stream) {
  using Epilogue = ActivationEpilogue<kGated>;
  typename Epilogue::Params epilogue{};
  epilogue.activation = args.activation;
  epilogue.h = static_cast<__nv_bfloat16*>(args.h);
  epilogue.a = static_cast<__nv_bfloat16*>(args.a);
  epilogue.bias = static_cast<const __nv_bfloat16*>(args.bias);
  epilogue.bias_expert_stride = args.bias_expert_stride;
  epilogue.bias_stride = static_cast<int>(args.bias_stride);
  epilogue.bias_pair_stride = static_cast<int>(args.bias_pair_stride);
  epilogue.inter = static_cast<int>(args.inter);
  if (product.tile.cols == 192) {
    launch_up<kGated, 192>(epilogue, product, stream);
  } else {
    launch_up<kGated, 256>(epilogue, product, stream);
  }
}

}  // namespace

void up_projection(const UpArgs& args, cudaStream_t stream) {
  const int pairs = args.activation.gated ? 2 : 1;
  Product product{.name = "up_projection",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.inter,
                  .n_pairs = pairs,
                  .depth = args.hidden,
                  .gathered = args.x};
  product.b = {"W1", args.weights, args.inter, args.hidden, pairs, args.rows.num_experts};
  const std::int64_t rank = args.low_rank.rank;
  product.factor_b = {
      "B1",       {args.low_rank.factor, rank, args.inter * rank, pairs * args.inter * rank},
      args.inter, rank,
      pairs,      args.rows.num_experts};
  product.tile = chosen(args.tile, product, true);
  if (pairs == 2) {
    run<true>(args, product, stream);
  } else {
    run<false>(args, product, stream);
  }
}

}  // namespace moesmith::kernels::sm90
