// SPDX-License-Identifier: Apache-2.0
// A task is one block of queries of one head. Keys come transposed, values as they are, both packed
// once for all queries of a segment; short segments, and queries with a past, read them in place.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/blocks.h"
#include "kernels/rows/rows.h"

namespace moesmith::kernels::attention {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
// Shorter segments have no second block of queries to pack for.
constexpr std::int64_t kMinPacked = 64;

// One worker's.
template <class T>
struct Scratch {
  float* scores;  // [kBlockQ, kBlockK]
  float* sum;     // [kBlockQ, head_dim]: running output
  float* max;     // [kBlockQ], of the scores before their scale
  float* total;   // [kBlockQ]
  T* probs;       // [kBlockQ, kBlockK]

  void take(Carver& carver, std::int64_t head_dim) {
    scores = carver.take<float>(kBlockQ * kBlockK);
    sum = carver.take<float>(kBlockQ * head_dim);
    max = carver.take<float>(kBlockQ);
    total = carver.take<float>(kBlockQ);
    probs = carver.take<T>(kBlockQ * kBlockK);
  }
};

// Keys of the block from `tile` on that a query at `position` sees.
Seen seen_from(std::int64_t position, std::int64_t window, std::int64_t tile, std::int64_t keys) {
  const std::int64_t first =
      window > 0 ? std::max<std::int64_t>(0, position - window + 1 - tile) : 0;
  return {first, std::min(keys - 1, position - tile)};
}

// Row r of the block becomes probabilities relative to the running maximum; what was summed before
// is scaled to the new maximum.
template <class T>
void fold_row(Scratch<T>& s, std::int64_t r, std::int64_t keys, Seen seen, const Problem& problem) {
  T* p = s.probs + r * kBlockK;
  if (seen.last < seen.first) {
    std::fill(p, p + keys, T(0.0f));
    return;
  }
  const float* x = s.scores + r * kBlockK + seen.first;
  const std::int64_t n = seen.last - seen.first + 1;
  const float max = std::max(s.max[r], rows::ops<T>().max(x, n));
  std::fill(p, p + seen.first, T(0.0f));
  const float sum =
      rows::ops<T>().exp_shift(p + seen.first, x, problem.scale, problem.scale * max, n);
  std::fill(p + seen.last + 1, p + keys, T(0.0f));
  if (max != s.max[r]) {
    const float rescale = std::exp(problem.scale * (s.max[r] - max));
    float* o = s.sum + r * problem.head_dim;
    rows::ops<float>().to_f32(o, o, rescale, problem.head_dim);
    s.total[r] *= rescale;
    s.max[r] = max;
  }
  s.total[r] += sum;
}

template <class T>
struct Keys {
  KeyBlocks blocks;
  PackedKeys<T> k, v;

  explicit Keys(const Problem& problem)
      : blocks(problem.segments, kMinPacked), k(problem, blocks, true), v(problem, blocks, false) {}
};

// Where task t of a head lies.
struct Place {
  std::size_t segment;
  std::int64_t block, head;
};

// A block of queries of one head.
template <class T>
struct BlockTask {
  const Args<T>& args;
  const Keys<T>& packed;
  Place place;
  Scratch<T>& s;
  ThreadPool& pool;

  const Problem& problem() const { return args.problem; }
  const Segment& segment() const { return problem().segments[place.segment]; }

  void run() {
    const Problem& p = problem();
    const Block block = block_of(segment(), p.window, place.block);
    const std::int64_t dim = p.head_dim, q_row = segment().q_begin + block.begin;
    std::fill(s.sum, s.sum + block.rows * dim, 0.0f);
    std::fill(s.max, s.max + block.rows, kMasked);
    std::fill(s.total, s.total + block.rows, 0.0f);
    for (std::int64_t tile = block.first_key; tile < block.end_key; tile += kBlockK) {
      const std::int64_t keys = std::min(kBlockK, block.end_key - tile);
      const bool split = packed.blocks.has(place.segment) && tile == block.begin;
      if (split && block.rows > kHalf) {
        key_block(block, tile, 0, kHalf, kHalf);
        key_block(block, tile, kHalf, block.rows - kHalf, keys);
      } else {
        key_block(block, tile, 0, block.rows, keys);
      }
    }
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const std::int64_t at = (q_row + r) * p.num_heads + place.head;
      rows::ops<T>().from_f32(args.out + at * dim, s.sum + r * dim, 1.0f / s.total[r], dim);
      args.log_sum[at] = p.scale * s.max[r] + std::log(s.total[r]);
    }
  }

 private:
  // Rows [begin, begin + count) of the block meet keys [tile, tile + keys).
  void key_block(const Block& block,
                 std::int64_t tile,
                 std::int64_t begin,
                 std::int64_t count,
                 std::int64_t keys) {
    constexpr DType kType = DTypeOf<T>::value;
    const Problem& p = problem();
    const std::int64_t dim = p.head_dim, kv_head = place.head / (p.num_heads / p.num_kv_heads);
    const std::int64_t q_row = segment().q_begin + block.begin + begin;
    const std::int64_t k_row = segment().k_begin + tile;
    const bool is_packed = packed.blocks.has(place.segment);
    const std::int64_t number = is_packed ? packed.blocks.number(place.segment, tile) : 0;
    gemm::Args g;
    g.m = count;
    g.n = keys;
    g.k = dim;
    g.a = gemm::row_major(args.q + q_row * args.q_stride + place.head * dim, kType, args.q_stride);
    g.b = gemm::transposed(args.k + k_row * args.k_stride + kv_head * dim, kType, args.k_stride);
    g.packed_b = is_packed ? packed.k.get(number, kv_head) : nullptr;
    g.c = s.scores + begin * kBlockK;
    g.ldc = kBlockK;
    gemm::run(g, pool);
    for (std::int64_t r = begin; r < begin + count; ++r) {
      const std::int64_t position = segment().past + block.begin + r;
      fold_row(s, r, keys, seen_from(position, p.window, tile, keys), p);
    }
    g.n = dim;
    g.k = keys;
    g.a = gemm::row_major(s.probs + begin * kBlockK, kType, kBlockK);
    g.b = gemm::row_major(args.v + k_row * args.v_stride + kv_head * dim, kType, args.v_stride);
    g.packed_b = is_packed ? packed.v.get(number, kv_head) : nullptr;
    g.c = s.sum + begin * dim;
    g.ldc = dim;
    g.accumulate = true;
    gemm::run(g, pool);
  }
};

}  // namespace

template <class T>
std::int64_t forward_bytes(const ScratchRequest& request, int num_threads) {
  Carver carver(nullptr);
  Scratch<T>().take(carver, request.head_dim);
  return num_threads * carver.used() + PackedKeys<T>::max_bytes(request, kMinPacked, true) +
         PackedKeys<T>::max_bytes(request, kMinPacked, false);
}

template <class T>
void forward(const Args<T>& args, ThreadPool& pool) {
  const Problem& p = args.problem;
  // first_block[s]: query blocks of all segments before s.
  std::vector<std::int64_t> first_block(1, 0);
  for (const Segment& segment : p.segments) {
    first_block.push_back(first_block.back() + ceil_div(segment.q_len, kBlockQ));
  }
  Carver carver(args.scratch);
  std::vector<Scratch<T>> scratch(static_cast<std::size_t>(pool.num_threads()));
  for (Scratch<T>& s : scratch) s.take(carver, p.head_dim);
  Keys<T> packed(p);
  packed.k.pack(args.k, args.k_stride, carver, pool);
  packed.v.pack(args.v, args.v_stride, carver, pool);
  pool.run(first_block.back() * p.num_heads, [&](std::int64_t task, int worker) {
    const std::int64_t block = task / p.num_heads;
    const auto next = std::upper_bound(first_block.begin(), first_block.end(), block);
    const auto s = static_cast<std::size_t>(next - first_block.begin() - 1);
    BlockTask<T>{args,
                 packed,
                 {s, block - first_block[s], task % p.num_heads},
                 scratch[static_cast<std::size_t>(worker)],
                 pool}
        .run();
  });
}

template std::int64_t forward_bytes<float>(const ScratchRequest&, int);
template std::int64_t forward_bytes<bf16>(const ScratchRequest&, int);
template void forward<float>(const Args<float>&, ThreadPool&);
template void forward<bf16>(const Args<bf16>&, ThreadPool&);

}  // namespace moesmith::kernels::attention
