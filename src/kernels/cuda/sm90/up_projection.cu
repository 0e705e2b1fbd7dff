// SPDX-License-Identifier: Apache-2.0
// h = x[token] W1^T + u1 B1^T + b1 and a = act(h).
#include "kernels/cuda/sm90/activation_launch.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

template <Pairing kPairing, Major kMajor>
void run(const UpArgs& args, const Product& product, cudaStream_t stream) {
  typename ActivationEpilogue<kPairing>::Params epilogue{};
  epilogue.activation = args.activation;
  epilogue.h = static_cast<__nv_bfloat16*>(args.h);
  epilogue.a = static_cast<__nv_bfloat16*>(args.a);
  epilogue.bias = static_cast<const __nv_bfloat16*>(args.bias);
  epilogue.bias_expert_stride = args.bias_expert_stride;
  epilogue.bias_stride = static_cast<int>(args.bias_stride);
  epilogue.bias_pair_stride = static_cast<int>(args.bias_pair_stride);
  epilogue.inter = static_cast<int>(args.inter);
  if constexpr (kMajor == Major::kK || kPairing == Pairing::kAdjacent) {
    if (product.tile.cols == 192) {
      return launch_up<kPairing, kMajor, 192>(epilogue, product, stream);
    }
  }
  launch_up<kPairing, kMajor, 256>(epilogue, product, stream);
}

}  // namespace

void up_projection(const UpArgs& args, cudaStream_t stream) {
  const bool transposed = args.layout != Layout::kOutIn;
  const bool adjacent = args.layout == Layout::kInOutAdjacent && args.activation.gated;
  const int pairs = args.activation.gated && !adjacent ? 2 : 1;
  const std::int64_t cols = adjacent ? 2 * args.inter : args.inter;
  Product product{.name = "up_projection",
                  .rows = &args.rows,
                  .b = {},
                  .factor_b = {},
                  .low_rank = args.low_rank,
                  .cols = cols,
                  .n_pairs = pairs,
                  .depth = args.hidden,
                  .gathered = args.x};
  const std::int64_t experts = args.rows.num_experts, rank = args.low_rank.rank;
  const void* factor = args.low_rank.factor;
  if (transposed) {
    product.b = {"W1", args.weights, args.hidden, cols, pairs, experts};
    product.factor_b = {
        "B1", {factor, pairs * cols, cols, rank * pairs * cols}, rank, cols, pairs, experts};
  } else {
    product.b = {"W1", args.weights, cols, args.hidden, pairs, experts};
    product.factor_b = {"B1",   {factor, rank, cols * rank, pairs * cols * rank}, cols, rank, pairs,
                        experts};
  }
  product.tile = chosen(args.tile, product, true);
  if (adjacent) {
    run<Pairing::kAdjacent, Major::kMn>(args, product, stream);
  } else if (pairs == 2) {
    transposed ? run<Pairing::kHalves, Major::kMn>(args, product, stream)
               : run<Pairing::kHalves, Major::kK>(args, product, stream);
  } else {
    transposed ? run<Pairing::kNone, Major::kMn>(args, product, stream)
               : run<Pairing::kNone, Major::kK>(args, product, stream);
  }
}

}  // namespace moesmith::kernels::sm90
