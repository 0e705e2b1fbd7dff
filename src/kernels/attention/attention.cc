// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/checked.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/rows.h"

namespace moesmith::kernels::attention {
namespace {

// A block's scores in f32, their bf16 copy and the running output stay within a 1 MiB L2 together.
constexpr std::int64_t kBlockQ = 128;
constexpr std::int64_t kBlockK = 128;
constexpr float kMasked = -std::numeric_limits<float>::infinity();

// One worker's share of the scratch. Both passes use the same layout, so one size serves.
template <class T>
struct Scratch {
  float* scores;   // [kBlockQ, kBlockK]
  float* d_probs;  // [kBlockQ, kBlockK]
  float* sum;      // [kBlockQ, head_dim]: running output, or d_q
  float* max;      // [kBlockQ]
  float* total;    // [kBlockQ]
  T* probs;        // [kBlockQ, kBlockK]
  T* d_scores;     // [kBlockQ, kBlockK]

  static std::int64_t bytes(std::int64_t head_dim) {
    const std::int64_t tile = kBlockQ * kBlockK;
    return round_up(4 * (2 * tile + kBlockQ * head_dim + 2 * kBlockQ) +
                        2 * tile * static_cast<std::int64_t>(sizeof(T)),
                    64);
  }
  Scratch(void* base, std::int64_t head_dim, int worker) {
    const std::int64_t tile = kBlockQ * kBlockK;
    auto* f = reinterpret_cast<float*>(static_cast<char*>(base) + worker * bytes(head_dim));
    scores = f;
    d_probs = scores + tile;
    sum = d_probs + tile;
    max = sum + kBlockQ * head_dim;
    total = max + kBlockQ;
    probs = reinterpret_cast<T*>(total + kBlockQ);
    d_scores = probs + tile;
  }
};

// Query rows [begin, begin + rows) of a segment, and the keys any of them sees.
struct Block {
  std::int64_t begin, rows, first_key, end_key;
};
Block block_of(const Segment& segment, std::int64_t window, std::int64_t block) {
  const std::int64_t begin = block * kBlockQ;
  const std::int64_t rows = std::min(kBlockQ, segment.q_len - begin);
  const std::int64_t position = segment.past + begin;
  const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, position - window + 1) : 0;
  return {begin, rows, first, position + rows};
}

// Keys [first, last] of the tile that starts at key `tile` and has `keys` of them, as seen from
// `position`; last < first when there is none.
struct Seen {
  std::int64_t first, last;
};
Seen seen_from(std::int64_t position, std::int64_t window, std::int64_t tile, std::int64_t keys) {
  const std::int64_t first =
      window > 0 ? std::max<std::int64_t>(0, position - window + 1 - tile) : 0;
  return {first, std::min(keys - 1, position - tile)};
}

template <class T>
void scores_of(const Args<T>& args,
               const T* q,
               const T* k,
               std::int64_t rows,
               std::int64_t keys,
               float* scores,
               ThreadPool& pool) {
  gemm::Args g;
  g.m = rows;
  g.n = keys;
  g.k = args.problem.head_dim;
  g.a = gemm::row_major(q, DTypeOf<T>::value, args.q_stride);
  g.b = gemm::transposed(k, DTypeOf<T>::value, args.k_stride);
  g.c = scores;
  g.ldc = kBlockK;
  g.alpha = args.problem.scale;
  gemm::run(g, pool);
}

// Row r of the tile becomes probabilities relative to the running maximum; what was summed before
// is scaled to the new maximum.
template <class T>
void fold_row(Scratch<T>& s, std::int64_t r, std::int64_t keys, Seen seen, std::int64_t head_dim) {
  T* p = s.probs + r * kBlockK;
  if (seen.last < seen.first) {
    std::fill(p, p + keys, T(0.0f));
    return;
  }
  const float* x = s.scores + r * kBlockK;
  const std::int64_t n = seen.last - seen.first + 1;
  const float max = std::max(s.max[r], rows::row_max(x + seen.first, n));
  const float rescale = std::exp(s.max[r] - max);
  std::fill(p, p + seen.first, T(0.0f));
  const float sum = rows::ops<T>().exp_shift(p + seen.first, x + seen.first, max, n);
  std::fill(p + seen.last + 1, p + keys, T(0.0f));
  if (rescale != 1.0f) {
    float* o = s.sum + r * head_dim;
    rows::ops<float>().to_f32(o, o, rescale, head_dim);
  }
  s.total[r] = s.total[r] * rescale + sum;
  s.max[r] = max;
}

template <class T>
void forward_block(const Args<T>& args,
                   const Segment& segment,
                   std::int64_t block_idx,
                   std::int64_t head,
                   Scratch<T> s,
                   ThreadPool& pool) {
  const Problem& p = args.problem;
  const std::int64_t dim = p.head_dim, kv_head = head / (p.num_heads / p.num_kv_heads);
  const Block block = block_of(segment, p.window, block_idx);
  const std::int64_t q_row = segment.q_begin + block.begin;
  const T* q = args.q + q_row * args.q_stride + head * dim;
  std::fill(s.sum, s.sum + block.rows * dim, 0.0f);
  std::fill(s.max, s.max + block.rows, kMasked);
  std::fill(s.total, s.total + block.rows, 0.0f);
  for (std::int64_t tile = block.first_key; tile < block.end_key; tile += kBlockK) {
    const std::int64_t keys = std::min(kBlockK, block.end_key - tile);
    const std::int64_t k_row = segment.k_begin + tile;
    scores_of(args, q, args.k + k_row * args.k_stride + kv_head * dim, block.rows, keys, s.scores,
              pool);
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const std::int64_t position = segment.past + block.begin + r;
      fold_row(s, r, keys, seen_from(position, p.window, tile, keys), dim);
    }
    gemm::Args g;
    g.m = block.rows;
    g.n = dim;
    g.k = keys;
    g.a = gemm::row_major(s.probs, DTypeOf<T>::value, kBlockK);
    g.b = gemm::row_major(args.v + k_row * args.v_stride + kv_head * dim, DTypeOf<T>::value,
                          args.v_stride);
    g.c = s.sum;
    g.ldc = dim;
    g.accumulate = true;
    gemm::run(g, pool);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    T* out = args.out + ((q_row + r) * p.num_heads + head) * dim;
    rows::ops<T>().from_f32(out, s.sum + r * dim, 1.0f / s.total[r], dim);
    args.log_sum[(q_row + r) * p.num_heads + head] = s.max[r] + std::log(s.total[r]);
  }
}

// One tile of backward: adds to s.sum (d_q of the block) and to d_k, d_v of the tile's keys.
template <class T>
void backward_tile(const BackwardArgs<T>& args,
                   const Segment& segment,
                   const Block& block,
                   std::int64_t head,
                   std::int64_t tile,
                   const float* delta,
                   Scratch<T>& s,
                   ThreadPool& pool) {
  const Args<T>& f = args.forward;
  const Problem& p = f.problem;
  const std::int64_t dim = p.head_dim, kv_head = head / (p.num_heads / p.num_kv_heads);
  const std::int64_t keys = std::min(kBlockK, block.end_key - tile);
  const std::int64_t q_row = segment.q_begin + block.begin, k_row = segment.k_begin + tile;
  const std::int64_t out_stride = p.num_heads * dim, kv_stride = p.num_kv_heads * dim;
  const T* q = f.q + q_row * f.q_stride + head * dim;
  const T* k = f.k + k_row * f.k_stride + kv_head * dim;
  const T* v = f.v + k_row * f.v_stride + kv_head * dim;
  const T* d_out = args.d_out + q_row * out_stride + head * dim;
  constexpr DType kType = DTypeOf<T>::value;
  scores_of(f, q, k, block.rows, keys, s.scores, pool);
  gemm::Args g;
  g.m = block.rows;
  g.n = keys;
  g.k = dim;
  g.a = gemm::row_major(d_out, kType, out_stride);
  g.b = gemm::transposed(v, kType, f.v_stride);
  g.c = s.d_probs;
  g.ldc = kBlockK;
  gemm::run(g, pool);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const Seen seen = seen_from(block.begin + r, p.window, tile, keys);
    T* prob = s.probs + r * kBlockK;
    T* ds = s.d_scores + r * kBlockK;
    const std::int64_t n = std::max<std::int64_t>(0, seen.last - seen.first + 1);
    const std::int64_t first = n > 0 ? seen.first : keys;
    std::fill(prob, prob + first, T(0.0f));
    std::fill(ds, ds + first, T(0.0f));
    if (n == 0) continue;
    rows::ops<T>().softmax_backward(prob + first, ds + first, s.scores + r * kBlockK + first,
                                    s.d_probs + r * kBlockK + first,
                                    f.log_sum[(q_row + r) * p.num_heads + head], delta[r], n);
    std::fill(prob + first + n, prob + keys, T(0.0f));
    std::fill(ds + first + n, ds + keys, T(0.0f));
  }
  g.accumulate = true;  // dv += p^T d_out
  g.m = keys;
  g.n = dim;
  g.k = block.rows;
  g.a = gemm::transposed(s.probs, kType, kBlockK);
  g.b = gemm::row_major(d_out, kType, out_stride);
  g.c = args.d_v + k_row * kv_stride + kv_head * dim;
  g.ldc = kv_stride;
  gemm::run(g, pool);
  g.alpha = p.scale;  // dk += scale * ds^T q
  g.a = gemm::transposed(s.d_scores, kType, kBlockK);
  g.b = gemm::row_major(q, kType, f.q_stride);
  g.c = args.d_k + k_row * kv_stride + kv_head * dim;
  gemm::run(g, pool);
  g.m = block.rows;  // dq += scale * ds k
  g.k = keys;
  g.a = gemm::row_major(s.d_scores, kType, kBlockK);
  g.b = gemm::row_major(k, kType, f.k_stride);
  g.c = s.sum;
  g.ldc = dim;
  gemm::run(g, pool);
}

template <class T>
void backward_head(const BackwardArgs<T>& args,
                   const Segment& segment,
                   const Block& block,
                   std::int64_t head,
                   Scratch<T>& s,
                   ThreadPool& pool) {
  const Args<T>& f = args.forward;
  const std::int64_t dim = f.problem.head_dim, heads = f.problem.num_heads;
  const std::int64_t q_row = segment.q_begin + block.begin;
  std::fill(s.sum, s.sum + block.rows * dim, 0.0f);
  float* delta = s.total;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = ((q_row + r) * heads + head) * dim;
    delta[r] = rows::ops<T>().dot(f.out + at, args.d_out + at, dim);
  }
  for (std::int64_t tile = block.first_key; tile < block.end_key; tile += kBlockK) {
    backward_tile(args, segment, block, head, tile, delta, s, pool);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    std::copy(s.sum + r * dim, s.sum + (r + 1) * dim,
              args.d_q + ((q_row + r) * heads + head) * dim);
  }
}

}  // namespace

template <class T>
std::int64_t scratch_bytes(std::int64_t head_dim, int num_threads) {
  return num_threads * Scratch<T>::bytes(head_dim);
}

template <class T>
void forward(const Args<T>& args, ThreadPool& pool) {
  const Problem& p = args.problem;
  // first_block[s]: query blocks of all segments before s.
  std::vector<std::int64_t> first_block(1, 0);
  for (const Segment& segment : p.segments) {
    first_block.push_back(first_block.back() + ceil_div(segment.q_len, kBlockQ));
  }
  pool.run(first_block.back() * p.num_heads, [&](std::int64_t task, int worker) {
    const std::int64_t block = task / p.num_heads;
    const auto next = std::upper_bound(first_block.begin(), first_block.end(), block);
    const auto s = static_cast<std::size_t>(next - first_block.begin() - 1);
    forward_block(args, p.segments[s], block - first_block[s], task % p.num_heads,
                  Scratch<T>(args.scratch, p.head_dim, worker), pool);
  });
}

// A task owns a key-value head of one segment, and with it the rows of d_k and d_v that the query
// blocks are summed into, in order.
template <class T>
void backward(const BackwardArgs<T>& args, ThreadPool& pool) {
  const Problem& p = args.forward.problem;
  const std::int64_t group = p.num_heads / p.num_kv_heads, kv_stride = p.num_kv_heads * p.head_dim;
  const auto num_segments = static_cast<std::int64_t>(p.segments.size());
  pool.run(num_segments * p.num_kv_heads, [&](std::int64_t task, int worker) {
    const Segment& segment = p.segments[static_cast<std::size_t>(task / p.num_kv_heads)];
    const std::int64_t kv_head = task % p.num_kv_heads;
    Scratch<T> s(args.forward.scratch, p.head_dim, worker);
    for (std::int64_t row = 0; row < segment.q_len; ++row) {
      const std::int64_t at = (segment.k_begin + row) * kv_stride + kv_head * p.head_dim;
      std::fill(args.d_k + at, args.d_k + at + p.head_dim, 0.0f);
      std::fill(args.d_v + at, args.d_v + at + p.head_dim, 0.0f);
    }
    for (std::int64_t b = 0; b < ceil_div(segment.q_len, kBlockQ); ++b) {
      const Block block = block_of(segment, p.window, b);
      for (std::int64_t h = 0; h < group; ++h) {
        backward_head(args, segment, block, kv_head * group + h, s, pool);
      }
    }
  });
}

template std::int64_t scratch_bytes<float>(std::int64_t, int);
template std::int64_t scratch_bytes<bf16>(std::int64_t, int);
template void forward<float>(const Args<float>&, ThreadPool&);
template void forward<bf16>(const Args<bf16>&, ThreadPool&);
template void backward<float>(const BackwardArgs<float>&, ThreadPool&);
template void backward<bf16>(const BackwardArgs<bf16>&, ThreadPool&);

}  // namespace moesmith::kernels::attention
