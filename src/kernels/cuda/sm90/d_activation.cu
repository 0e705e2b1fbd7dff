// SPDX-License-Identifier: Apache-2.0
// dA' = dy[token] W2 + v2 A2, and at once <dA', a>, a and dh.
#include "kernels/cuda/sm90/activation_launch.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

template <Pairing kPairing, Major kMajor>
int run(const DActivationArgs& args, const Product& product, cudaStream_t stream) {
  typename DActivationEpilogue<kPairing>::Params epilogue{};
  epilogue.activation = args.activation;
  epilogue.h = static_cast<const __nv_bfloat16*>(args.h);
  epilogue.row_weight = args.rows.row_weight;
  epilogue.dh = static_cast<__nv_bfloat16*>(args.dh);
  epilogue.a = static_cast<__nv_bfloat16*>(args.a);
  epilogue.weigh_a = args.weigh_a;
  epilogue.row_parts = args.row_parts;
  epilogue.inter = static_cast<int>(args.inter);
  const bool wide = kMajor == Major::kMn && product.tile.cols == 256;
  const std::int64_t cols = wide ? 256 : 192;
  epilogue.n_tiles = static_cast<int>((args.inter + cols - 1) / cols);
  if constexpr (kMajor == Major::kMn) {
    if (wide) {
      launch_d_activation<kPairing, kMajor, 256>(epilogue, product, stream);
      return epilogue.n_tiles;
    }
  }
  launch_d_activation<kPairing, kMajor, 192>(epilogue, product, stream);
  return epilogue.n_tiles;
}

}  // namespace

int d_activation(const DActivationArgs& args, cudaStream_t stream) {
  const bool transposed = args.layout != Layout::kOutIn;
  Product product{.name = "d_activation",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = args.inter,
                  .depth = args.hidden,
                  .gathered = args.dy};
  const std::int64_t experts = args.rows.num_experts, rank = args.low_rank.rank;
  const void* factor = args.low_rank.factor;
  if (transposed) {
    product.b = {"W2", args.weights, args.inter, args.hidden, 1, experts};
    product.factor_b = {
        "A2", {factor, rank, args.inter * rank, args.inter * rank}, args.inter, rank, 1, experts};
  } else {
    product.b = {"W2", args.weights, args.hidden, args.inter, 1, experts};
    product.factor_b = {"A2", {factor, args.inter, args.inter * rank, args.inter * rank},
                        rank, args.inter,
                        1,    experts};
  }
  product.tile = chosen(args.tile, product, true);
  if (!args.activation.gated) {
    return transposed ? run<Pairing::kNone, Major::kK>(args, product, stream)
                      : run<Pairing::kNone, Major::kMn>(args, product, stream);
  }
  switch (args.layout) {
    case Layout::kOutIn:
      return run<Pairing::kHalves, Major::kMn>(args, product, stream);
    case Layout::kInOut:
      return run<Pairing::kHalves, Major::kK>(args, product, stream);
    case Layout::kInOutAdjacent:
      break;
  }
  return run<Pairing::kAdjacent, Major::kK>(args, product, stream);
}

}  // namespace moesmith::kernels::sm90
