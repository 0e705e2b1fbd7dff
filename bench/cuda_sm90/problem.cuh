// SPDX-License-Identifier: Apache-2.0
// One experts layer on the device, random, with every buffer the kernels of sm90.h need, and its
// forward and backward as a list of named launches. Shared by the test and the benchmark.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

#define SM90_CHECK(call)                                                                   \
  do {                                                                                     \
    const cudaError_t error_ = (call);                                                     \
    if (error_ != cudaSuccess) {                                                           \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_)); \
      std::exit(1);                                                                        \
    }                                                                                      \
  } while (0)

struct ProblemSpec {
  std::string name;
  std::int64_t experts, top_k, hidden, inter, tokens;
  std::int64_t lora_rank = 16;
  bool gated = true, interleaved = false, bias = false;
  bool transposed = false;  // [in, out] weights
  bool tables = false;      // weights through pointers, gate and up as separate matrices
  ActivationKind kind = ActivationKind::kSilu;
  float gate_max = __builtin_huge_valf(), up_limit = __builtin_huge_valf(), alpha = 1.0f,
        up_shift = 0.0f;
  double skip = 0.0;  // share of slots that are not ours
  double skew = 0.0;  // exponent of the experts' popularity
  unsigned seed = 1;
};

__device__ inline float hash_normal(std::uint64_t i, std::uint64_t seed) {
  std::uint64_t z = i * 0x9e3779b97f4a7c15ull + seed * 0xd1342543de82ef95ull + 0x1234567;
  float sum = 0.0f;
  for (int k = 0; k < 4; ++k) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    sum += static_cast<float>(z >> 40) * (1.0f / 16777216.0f) - 0.5f;
  }
  return sum * 1.7320508f;
}
template <class T>
__global__ void fill_normal(T* to, std::int64_t n, float scale, std::uint64_t seed) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    to[i] = static_cast<T>(scale * hash_normal(i, seed));
  }
}

struct Problem {
  ProblemSpec spec;
  std::int64_t pairs, max_rows, rank;
  std::int64_t num_rows = 0;
  Rows rows;
  Activation activation;
  std::vector<void*> owned;
  std::int64_t owned_bytes = 0;
  std::vector<std::int32_t> offsets, row_token, slot_row;
  std::vector<float> row_weight;
  float scale = 2.0f;

  __nv_bfloat16 *x, *dy, *w1, *w2, *b1, *b2;
  float *a1, *bb1, *a2, *bb2;  // PEFT's layout
  __nv_bfloat16 *pa1, *pb1r, *pb1c, *pa2, *pb2r, *pb2c;
  __nv_bfloat16 *pa1c = nullptr, *pa2c = nullptr;  // by column, for transposed weights
  __nv_bfloat16 *h, *a, *y, *out, *u1, *u2, *v1, *v2, *dh, *a_again, *dx, *d_hidden_out;
  float *row_parts, *d_weights, *parts, *da1, *dbb1, *da2, *dbb2;
  int num_parts = 0;
  const void **table_1, **table_up, **table_2;
  TileChoice tile_up, tile_down, tile_da, tile_dx;

  template <class T>
  T* take(std::int64_t n, int poison = 0xff) {
    void* p = nullptr;
    const std::size_t bytes = static_cast<std::size_t>(std::max<std::int64_t>(n, 16)) * sizeof(T);
    SM90_CHECK(cudaMalloc(&p, bytes));
    SM90_CHECK(cudaMemset(p, poison, bytes));
    owned.push_back(p);
    owned_bytes += static_cast<std::int64_t>(bytes);
    return static_cast<T*>(p);
  }
  template <class T>
  T* random(std::int64_t n, float with_scale) {
    T* p = take<T>(n);
    fill_normal<<<2048, 256>>>(p, n, with_scale, spec.seed * 1000 + owned.size());
    SM90_CHECK(cudaGetLastError());
    return p;
  }
  template <class T>
  T* copy(const std::vector<T>& from) {
    T* p = take<T>(static_cast<std::int64_t>(from.size()));
    SM90_CHECK(cudaMemcpy(p, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
  }

  void route();
  explicit Problem(const ProblemSpec& wanted);
  ~Problem() {
    for (void* p : owned) cudaFree(p);
  }
  Problem(const Problem&) = delete;

  bool adjacent() const { return spec.gated && spec.interleaved && spec.transposed; }
  // Rows of B that the packed copies put in another order.
  bool mixed() const { return spec.interleaved && !spec.transposed; }
  Layout layout() const {
    return adjacent() ? Layout::kInOutAdjacent : spec.transposed ? Layout::kInOut : Layout::kOutIn;
  }
  Weights w1_view() const {
    const std::int64_t ld = spec.hidden, n = pairs * spec.inter * ld;
    if (spec.transposed) return {w1, pairs * spec.inter, adjacent() ? 0 : spec.inter, n};
    if (spec.interleaved) return {w1, 2 * ld, ld, n};
    if (spec.tables) {
      return {w1, ld, 0, 0, table_1, pairs == 2 ? table_up : nullptr, spec.experts * n};
    }
    return {w1, ld, spec.inter * ld, n};
  }
  Weights w2_view() const {
    const std::int64_t n = spec.hidden * spec.inter;
    if (spec.transposed) return {w2, spec.hidden, n, n};
    if (spec.tables) return {w2, spec.inter, 0, 0, table_2, nullptr, spec.experts * n};
    return {w2, spec.inter, n, n};
  }

  using Step = std::pair<std::string, std::function<void(cudaStream_t)>>;
  std::vector<Step> forward_steps();
  std::vector<Step> backward_steps();
};

inline void Problem::route() {
  std::mt19937 generator(spec.seed);
  const std::int64_t E = spec.experts, K = spec.top_k, T = spec.tokens;
  std::vector<double> popularity(E);
  for (std::int64_t e = 0; e < E; ++e) popularity[e] = std::pow(1.0 + e, -spec.skew);
  if (E > 3 && spec.skew > 0) popularity[2] = 0.0;  // an expert without rows
  std::vector<int> choice(T * K);
  std::vector<float> weight(T * K);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<std::pair<double, int>> keys(E);
  for (std::int64_t t = 0; t < T; ++t) {
    for (std::int64_t e = 0; e < E; ++e) {
      const double p = popularity[e];
      keys[e] = {p > 0 ? -std::log(uniform(generator) + 1e-300) / p : 1e300, static_cast<int>(e)};
    }
    std::partial_sort(keys.begin(), keys.begin() + K, keys.end());
    for (std::int64_t k = 0; k < K; ++k) {
      choice[t * K + k] = uniform(generator) < spec.skip ? -1 : keys[k].second;
      weight[t * K + k] = static_cast<float>(0.2 + uniform(generator)) / static_cast<float>(K);
    }
  }
  offsets.assign(E + 1, 0);
  for (int e : choice) {
    if (e >= 0) ++offsets[e + 1];
  }
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  num_rows = offsets[E];
  std::vector<std::int32_t> at(offsets.begin(), offsets.end() - 1);
  slot_row.assign(T * K, -1);
  row_token.assign(T * K, 0);
  row_weight.assign(T * K, 0.0f);
  for (std::int64_t s = 0; s < T * K; ++s) {
    if (choice[s] < 0) continue;
    const std::int32_t row = at[choice[s]]++;
    slot_row[s] = row;
    row_token[row] = static_cast<std::int32_t>(s / K);
    row_weight[row] = weight[s];
  }
}

inline Problem::Problem(const ProblemSpec& wanted) : spec(wanted) {
  const std::int64_t E = spec.experts, H = spec.hidden, I = spec.inter, T = spec.tokens;
  pairs = spec.gated ? 2 : 1;
  max_rows = T * spec.top_k;
  rank = (spec.lora_rank + 15) / 16 * 16;
  route();
  activation = {spec.kind, spec.gated, spec.gate_max, spec.up_limit, spec.alpha, spec.up_shift};
  rows.num_experts = E;
  rows.num_tokens = T;
  rows.top_k = spec.top_k;
  rows.max_rows = max_rows;
  rows.offsets = copy(offsets);
  rows.row_token = copy(row_token);
  rows.row_weight = copy(row_weight);
  rows.slot_row = copy(slot_row);
  rows.tiles = take<char>(tile_bytes(max_rows, E));
  const float by_h = 1.0f / std::sqrt(static_cast<float>(H)),
              by_i = 1.0f / std::sqrt(static_cast<float>(I));
  x = random<__nv_bfloat16>(T * H, 1.0f);
  dy = random<__nv_bfloat16>(T * H, 1.0f);
  w1 = random<__nv_bfloat16>(E * pairs * I * H, by_h);
  w2 = random<__nv_bfloat16>(E * H * I, by_i);
  b1 = spec.bias ? random<__nv_bfloat16>(E * pairs * I, 1.0f) : nullptr;
  b2 = spec.bias ? random<__nv_bfloat16>(E * H, 1.0f) : nullptr;
  std::vector<const void*> gate(E), up(E), down(E);
  for (std::int64_t e = 0; e < E; ++e) {
    gate[e] = w1 + e * pairs * I * H, up[e] = w1 + (e * pairs + pairs - 1) * I * H,
    down[e] = w2 + e * H * I;
  }
  table_1 = copy(gate), table_up = copy(up), table_2 = copy(down);
  const std::int64_t r = spec.lora_rank, R = max_rows;
  a1 = random<float>(r * E * H, by_h);
  bb1 = random<float>(pairs * I * r * E,
                      0.3f / std::sqrt(static_cast<float>(std::max<std::int64_t>(r, 1))));
  a2 = random<float>(r * E * I, by_i);
  bb2 =
      random<float>(H * r * E, 0.3f / std::sqrt(static_cast<float>(std::max<std::int64_t>(r, 1))));
  pa1 = take<__nv_bfloat16>(E * rank * H);
  pa2 = take<__nv_bfloat16>(E * rank * I);
  if (spec.transposed) pa1c = take<__nv_bfloat16>(E * rank * H);
  if (spec.transposed) pa2c = take<__nv_bfloat16>(E * rank * I);
  pb1r = take<__nv_bfloat16>(E * rank * pairs * I);
  pb1c = take<__nv_bfloat16>(E * rank * pairs * I);
  pb2r = take<__nv_bfloat16>(E * rank * H);
  pb2c = take<__nv_bfloat16>(E * rank * H);
  h = take<__nv_bfloat16>(R * pairs * I);
  dh = take<__nv_bfloat16>(R * pairs * I);
  a = take<__nv_bfloat16>(R * I);
  a_again = take<__nv_bfloat16>(R * I);
  y = take<__nv_bfloat16>(R * H);
  dx = take<__nv_bfloat16>(R * H);
  out = take<__nv_bfloat16>(T * H);
  d_hidden_out = take<__nv_bfloat16>(T * H);
  u1 = take<__nv_bfloat16>(R * rank);
  u2 = take<__nv_bfloat16>(R * rank);
  v1 = take<__nv_bfloat16>(R * rank);
  v2 = take<__nv_bfloat16>(R * rank);
  row_parts = take<float>(R * d_activation_parts(I));
  d_weights = take<float>(R);
  parts = take<float>(skinny_part_elements(R, E, std::max(H, pairs * I), rank));
  da1 = take<float>(r * E * H);
  dbb1 = take<float>(pairs * I * r * E);
  da2 = take<float>(r * E * I);
  dbb2 = take<float>(H * r * E);
  SM90_CHECK(cudaDeviceSynchronize());
}

inline std::vector<Problem::Step> Problem::forward_steps() {
  std::vector<Step> steps;
  const std::int64_t E = spec.experts, H = spec.hidden, I = spec.inter, r = spec.lora_rank;
  steps.emplace_back(
      "tiles", [this](cudaStream_t s) { build_tiles(rows, const_cast<void*>(rows.tiles), s); });
  if (rank > 0) {
    steps.emplace_back("pack", [=, this](cudaStream_t s) {
      const bool t = spec.transposed;
      const PackArgs factors[] = {
          {E, H, r, rank, a1, true, true, false, pa1, nullptr},
          {E, pairs * I, r, rank, bb1, true, false, mixed(), t ? pb1r : nullptr,
           t ? nullptr : pb1c},
          {E, I, r, rank, a2, true, true, false, pa2, nullptr},
          {E, H, r, rank, bb2, true, false, false, t ? pb2r : nullptr, t ? nullptr : pb2c}};
      pack_factors(factors, s);
    });
    steps.emplace_back("u1", [=, this](cudaStream_t s) {
      SkinnyArgs args{.rows = rows,
                      .cols = H,
                      .rank = rank,
                      .gathered = true,
                      .p = x,
                      .q = pa1,
                      .scale = scale,
                      .narrow = u1};
      skinny(args, s);
    });
  }
  steps.emplace_back("up", [=, this](cudaStream_t s) {
    UpArgs args{.rows = rows,
                .hidden = H,
                .inter = I,
                .x = x,
                .weights = w1_view(),
                .layout = layout(),
                .bias = b1,
                .bias_stride = mixed() ? 2 : 1,
                .bias_pair_stride = mixed() ? 1 : I,
                .bias_expert_stride = pairs * I,
                .low_rank = {u1, spec.transposed ? pb1r : pb1c, rank},
                .activation = activation,
                .h = h,
                .a = a,
                .tile = tile_up};
    up_projection(args, s);
  });
  if (rank > 0) {
    steps.emplace_back("u2", [=, this](cudaStream_t s) {
      SkinnyArgs args{
          .rows = rows, .cols = I, .rank = rank, .p = a, .q = pa2, .scale = scale, .narrow = u2};
      skinny(args, s);
    });
  }
  steps.emplace_back("down", [=, this](cudaStream_t s) {
    DownArgs args{.rows = rows,
                  .hidden = H,
                  .inter = I,
                  .a = a,
                  .weights = w2_view(),
                  .transposed = spec.transposed,
                  .bias = b2,
                  .low_rank = {u2, spec.transposed ? pb2r : pb2c, rank},
                  .y = y,
                  .tile = tile_down};
    down_projection(args, s);
  });
  steps.emplace_back("combine", [=, this](cudaStream_t s) {
    combine({.rows = rows, .hidden = H, .weighted = true, .in = y, .out = out}, s);
  });
  return steps;
}

inline std::vector<Problem::Step> Problem::backward_steps() {
  std::vector<Step> steps;
  const std::int64_t E = spec.experts, H = spec.hidden, I = spec.inter, r = spec.lora_rank;
  steps.emplace_back(
      "tiles", [this](cudaStream_t s) { build_tiles(rows, const_cast<void*>(rows.tiles), s); });
  if (rank > 0) {
    steps.emplace_back("pack", [=, this](cudaStream_t s) {
      const bool t = spec.transposed;
      const PackArgs factors[] = {{E, H, r, rank, a1, true, true, false, t ? nullptr : pa1, pa1c},
                                  {E, pairs * I, r, rank, bb1, true, false, mixed(), pb1r, nullptr},
                                  {E, I, r, rank, a2, true, true, false, t ? nullptr : pa2, pa2c},
                                  {E, H, r, rank, bb2, true, false, false, pb2r, nullptr}};
      pack_factors(factors, s);
    });
    steps.emplace_back("v2,dB2", [=, this](cudaStream_t s) {
      SkinnyArgs args{.rows = rows,
                      .cols = H,
                      .rank = rank,
                      .gathered = true,
                      .weighted = true,
                      .p = dy,
                      .q = pb2r,
                      .scale = scale,
                      .narrow = v2,
                      .n = u2,
                      .parts = parts};
      skinny(args, s);
    });
    steps.emplace_back("sum dB2", [=, this](cudaStream_t s) {
      factor_gradient({.rows = rows,
                       .cols = H,
                       .rank = rank,
                       .lora_rank = r,
                       .parts = parts,
                       .is_a = false,
                       .out = dbb2},
                      s);
    });
  }
  steps.emplace_back("dA'", [=, this](cudaStream_t s) {
    DActivationArgs args{.rows = rows,
                         .hidden = H,
                         .inter = I,
                         .dy = dy,
                         .weights = w2_view(),
                         .layout = layout(),
                         .low_rank = {v2, spec.transposed ? pa2c : pa2, rank},
                         .activation = activation,
                         .h = h,
                         .dh = dh,
                         .a = rank > 0 ? a_again : nullptr,
                         .row_parts = row_parts,
                         .tile = tile_da};
    num_parts = d_activation(args, s);
  });
  steps.emplace_back("d_weights", [=, this](cudaStream_t s) {
    route_weight_gradient(
        {.rows = rows, .num_parts = num_parts, .row_parts = row_parts, .out = d_weights}, s);
  });
  if (rank > 0) {
    steps.emplace_back("dA2", [=, this](cudaStream_t s) {
      SkinnyArgs args{.rows = rows,
                      .cols = I,
                      .rank = rank,
                      .weighted = true,
                      .p = a_again,
                      .n = v2,
                      .parts = parts};
      skinny(args, s);
    });
    steps.emplace_back("sum dA2", [=, this](cudaStream_t s) {
      factor_gradient(
          {.rows = rows, .cols = I, .rank = rank, .lora_rank = r, .parts = parts, .out = da2}, s);
    });
    steps.emplace_back("v1,dB1", [=, this](cudaStream_t s) {
      SkinnyArgs args{.rows = rows,
                      .cols = pairs * I,
                      .rank = rank,
                      .p = dh,
                      .q = pb1r,
                      .scale = scale,
                      .narrow = v1,
                      .n = u1,
                      .parts = parts};
      skinny(args, s);
    });
    steps.emplace_back("sum dB1", [=, this](cudaStream_t s) {
      factor_gradient({.rows = rows,
                       .cols = pairs * I,
                       .rank = rank,
                       .lora_rank = r,
                       .parts = parts,
                       .is_a = false,
                       .interleaved = mixed(),
                       .out = dbb1},
                      s);
    });
    steps.emplace_back("dA1", [=, this](cudaStream_t s) {
      SkinnyArgs args{
          .rows = rows, .cols = H, .rank = rank, .gathered = true, .p = x, .n = v1, .parts = parts};
      skinny(args, s);
    });
    steps.emplace_back("sum dA1", [=, this](cudaStream_t s) {
      factor_gradient(
          {.rows = rows, .cols = H, .rank = rank, .lora_rank = r, .parts = parts, .out = da1}, s);
    });
  }
  steps.emplace_back("dX", [=, this](cudaStream_t s) {
    DHiddenArgs args{.rows = rows,
                     .hidden = H,
                     .inter = I,
                     .gated = spec.gated,
                     .dh = dh,
                     .weights = w1_view(),
                     .layout = layout(),
                     .low_rank = {v1, spec.transposed ? pa1c : pa1, rank},
                     .dx = dx,
                     .tile = tile_dx};
    d_hidden(args, s);
  });
  steps.emplace_back("combine dX", [=, this](cudaStream_t s) {
    combine({.rows = rows, .hidden = H, .in = dx, .out = d_hidden_out}, s);
  });
  return steps;
}

}  // namespace moesmith::kernels::sm90
