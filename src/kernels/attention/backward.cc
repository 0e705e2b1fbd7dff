// SPDX-License-Identifier: Apache-2.0
// A task is one query head of one segment. Scores are made transposed, keys by queries, so that the
// products for dk and dv read probabilities and score gradients in place. Each head sums dk and dv
// over its blocks into a part of its own; the parts of the heads that share a key are added in the
// heads' order, whatever number of them is held at once.
#include <algorithm>
#include <vector>

#include "kernels/attention/blocks.h"
#include "kernels/rows/rows.h"

namespace moesmith::kernels::attention {
namespace {

// One worker's.
template <class T>
struct Scratch {
  float* scores;   // [kBlockK, kBlockQ]
  float* d_probs;  // [kBlockK, kBlockQ]
  float* d_q;      // [kBlockQ, head_dim]
  float* log_sum;  // [kBlockQ]
  float* delta;    // [kBlockQ]: <out, d_out>
  T* probs;        // [kBlockK, kBlockQ]
  T* d_scores;     // [kBlockK, kBlockQ]
  // Storage of the block's packed operands: q and d_out, transposed and as they are.
  char *q_t, *d_out_t, *q, *d_out;

  void take(Carver& carver, std::int64_t head_dim) {
    constexpr std::int64_t kTile = kBlockQ * kBlockK;
    constexpr DType kType = DTypeOf<T>::value;
    scores = carver.take<float>(kTile);
    d_probs = carver.take<float>(kTile);
    d_q = carver.take<float>(kBlockQ * head_dim);
    log_sum = carver.take<float>(kBlockQ);
    delta = carver.take<float>(kBlockQ);
    probs = carver.take<T>(kTile);
    d_scores = carver.take<T>(kTile);
    for (char** storage : {&q_t, &d_out_t}) {
      *storage = carver.take<char>(gemm::PackedB::storage_bytes(head_dim, kBlockQ, kType, kType));
    }
    for (char** storage : {&q, &d_out}) {
      *storage = carver.take<char>(gemm::PackedB::storage_bytes(kBlockQ, head_dim, kType, kType));
    }
  }
};

// Heads of a group whose parts are held at once: enough tasks for the threads, where one segment
// is all there is.
std::int64_t heads_at_once(std::int64_t num_heads, std::int64_t num_kv_heads, int num_threads) {
  constexpr std::int64_t kTasksPerThread = 4;
  return std::clamp<std::int64_t>(ceil_div(kTasksPerThread * num_threads, num_kv_heads), 1,
                                  num_heads / num_kv_heads);
}

// Gradients of keys and values by single heads: [heads at once, kv heads, rows, head_dim].
struct Parts {
  float *d_k, *d_v;
  std::int64_t num_kv_heads, num_rows, head_dim;

  void take(Carver& carver, std::int64_t heads) {
    d_k = carver.take<float>(heads * num_kv_heads * num_rows * head_dim);
    d_v = carver.take<float>(heads * num_kv_heads * num_rows * head_dim);
  }
  std::int64_t at(std::int64_t slot, std::int64_t kv_head, std::int64_t row) const {
    return ((slot * num_kv_heads + kv_head) * num_rows + row) * head_dim;
  }
};

// Queries of the block that see `key`.
Seen seen_by(std::int64_t key, const Block& block, std::int64_t window) {
  const std::int64_t first = std::max<std::int64_t>(0, key - block.begin);
  return {first,
          window > 0 ? std::min(block.rows, key - block.begin + window) - 1 : block.rows - 1};
}

// The block's queries and output gradients, packed for every block of keys they meet.
struct PackedQueries {
  gemm::PackedB q_t, d_out_t, q, d_out;
};

// One query head of one segment.
template <class T>
struct HeadTask {
  const BackwardArgs<T>& args;
  const KeyBlocks& blocks;
  const PackedKeys<T>& keys;
  const Parts& parts;
  const float* deltas;  // [rows, heads]
  Scratch<T>& s;
  ThreadPool& pool;
  std::size_t segment_idx;
  std::int64_t head, kv_head, slot;

  const Problem& problem() const { return args.forward.problem; }
  const Segment& segment() const { return problem().segments[segment_idx]; }

  void run() {
    for (std::int64_t b = 0; b < ceil_div(segment().q_len, kBlockQ); ++b) {
      const Block block = block_of(segment(), problem().window, b);
      const std::int64_t dim = problem().head_dim, q_row = segment().q_begin + block.begin;
      prepare(block, q_row);
      const PackedQueries packed = pack(block, q_row);
      std::fill(s.d_q, s.d_q + block.rows * dim, 0.0f);
      for (std::int64_t tile = block.first_key; tile < block.end_key; tile += kBlockK) {
        key_block(block, packed, tile);
      }
      for (std::int64_t r = 0; r < block.rows; ++r) {
        std::copy(s.d_q + r * dim, s.d_q + (r + 1) * dim,
                  args.d_q + ((q_row + r) * problem().num_heads + head) * dim);
      }
    }
  }

 private:
  void prepare(const Block& block, std::int64_t q_row) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const std::int64_t at = (q_row + r) * problem().num_heads + head;
      s.log_sum[r] = args.forward.log_sum[at];
      s.delta[r] = deltas[at];
    }
  }

  PackedQueries pack(const Block& block, std::int64_t q_row) {
    constexpr DType kType = DTypeOf<T>::value;
    const std::int64_t dim = problem().head_dim, width = problem().num_heads * dim;
    const std::int64_t q_stride = args.forward.q_stride;
    const T* q = args.forward.q + q_row * q_stride + head * dim;
    const T* d_out = args.d_out + q_row * width + head * dim;
    return {
        {gemm::transposed(q, kType, q_stride), dim, block.rows, kType, pool, s.q_t},
        {gemm::transposed(d_out, kType, width), dim, block.rows, kType, pool, s.d_out_t},
        {gemm::row_major(q, kType, q_stride), block.rows, dim, kType, pool, s.q},
        {gemm::row_major(d_out, kType, width), block.rows, dim, kType, pool, s.d_out},
    };
  }

  // The B of a product: [k, n] of a packed operand, from (row, col) on.
  struct Part {
    const gemm::PackedB& of;
    std::int64_t row, col, k, n;
  };
  void product(
      gemm::Operand a, const Part& b, std::int64_t m, float* c, std::int64_t ldc, bool accumulate) {
    gemm::Args g;
    g.m = m;
    g.n = b.n;
    g.k = b.k;
    g.a = a;
    g.packed_b = &b.of;
    g.packed_row = b.row;
    g.packed_col = b.col;
    g.c = c;
    g.ldc = ldc;
    g.accumulate = accumulate;
    gemm::run(g, pool);
  }

  // Adds to s.d_q, and to the head's part of d_k and d_v of the keys from `tile` on.
  void key_block(const Block& block, const PackedQueries& packed, std::int64_t tile) {
    const std::int64_t count = std::min(kBlockK, block.end_key - tile);
    // The first block of queries that sees a key stands at the key's own place.
    const bool first = tile == block.begin;
    if (first && count > kHalf) {
      keys_of(block, packed, tile, 0, kHalf, 0, true);
      keys_of(block, packed, tile, kHalf, count - kHalf, kHalf, true);
      add_d_q(tile, 0, kHalf, kHalf);
      add_d_q(tile, kHalf, block.rows - kHalf, count);
    } else {
      keys_of(block, packed, tile, 0, count, 0, first);
      add_d_q(tile, 0, block.rows, count);
    }
  }

  // Keys [begin, begin + count) of the block meet the queries from `from` on, which are all that
  // see them: d_k and d_v, overwritten where `first`.
  void keys_of(const Block& block,
               const PackedQueries& packed,
               std::int64_t tile,
               std::int64_t begin,
               std::int64_t count,
               std::int64_t from,
               bool first) {
    constexpr DType kType = DTypeOf<T>::value;
    const Args<T>& f = args.forward;
    const std::int64_t dim = problem().head_dim, row = segment().k_begin + tile + begin;
    const std::int64_t n = block.rows - from, corner = begin * kBlockQ + from;
    const T* k = f.k + row * f.k_stride + kv_head * dim;
    const T* v = f.v + row * f.v_stride + kv_head * dim;
    product(gemm::row_major(k, kType, f.k_stride), {packed.q_t, 0, from, dim, n}, count,
            s.scores + corner, kBlockQ, false);
    product(gemm::row_major(v, kType, f.v_stride), {packed.d_out_t, 0, from, dim, n}, count,
            s.d_probs + corner, kBlockQ, false);
    softmax(block, tile, begin, count);
    // Zeros stand before `from`, for heads whose panels cannot be cut along the queries.
    const std::int64_t at = parts.at(slot, kv_head, row);
    const std::int64_t cut = packed.q.has_part(from, 0, n, dim) ? from : 0;
    const std::int64_t cut_corner = begin * kBlockQ + cut, cut_n = block.rows - cut;
    product(gemm::row_major(s.probs + cut_corner, kType, kBlockQ),
            {packed.d_out, cut, 0, cut_n, dim}, count, parts.d_v + at, dim, !first);
    product(gemm::row_major(s.d_scores + cut_corner, kType, kBlockQ),
            {packed.q, cut, 0, cut_n, dim}, count, parts.d_k + at, dim, !first);
  }

  // Queries [begin, begin + count) of the block by the first `num_keys` keys.
  void add_d_q(std::int64_t tile, std::int64_t begin, std::int64_t count, std::int64_t num_keys) {
    const std::int64_t dim = problem().head_dim;
    product(gemm::transposed(s.d_scores + begin, DTypeOf<T>::value, kBlockQ),
            {*keys.get(blocks.number(segment_idx, tile), kv_head), 0, 0, num_keys, dim}, count,
            s.d_q + begin * dim, dim, true);
  }

  // Probabilities and scaled score gradients of keys [from_key, from_key + count); zeros where a
  // query does not see a key.
  void softmax(const Block& block, std::int64_t tile, std::int64_t from_key, std::int64_t count) {
    for (std::int64_t j = from_key; j < from_key + count; ++j) {
      const Seen seen = seen_by(tile + j, block, problem().window);
      T* p = s.probs + j * kBlockQ;
      T* ds = s.d_scores + j * kBlockQ;
      const std::int64_t n = std::max<std::int64_t>(0, seen.last - seen.first + 1);
      const std::int64_t begin = n > 0 ? seen.first : block.rows, end = begin + n;
      for (T* out : {p, ds}) {
        std::fill(out, out + begin, T(0.0f));
        std::fill(out + end, out + block.rows, T(0.0f));
      }
      if (n == 0) continue;
      rows::ops<T>().softmax_backward(p + begin, ds + begin, s.scores + j * kBlockQ + begin,
                                      s.d_probs + j * kBlockQ + begin, problem().scale,
                                      s.log_sum + begin, s.delta + begin, n);
    }
  }
};

// <out, d_out> of every query and head, row by row as they lie: a head's rows are pages apart.
template <class T>
void dot_outputs(const BackwardArgs<T>& args,
                 std::int64_t num_rows,
                 float* deltas,
                 ThreadPool& pool) {
  constexpr std::int64_t kChunk = 256;
  const std::int64_t dim = args.forward.problem.head_dim;
  pool.for_chunks(
      num_rows * args.forward.problem.num_heads, kChunk, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          deltas[i] = rows::ops<T>().dot(args.forward.out + i * dim, args.d_out + i * dim, dim);
        }
      });
}

// d = (first ? 0 : d) + the parts of the slots, in their order; d [num_rows, kv heads * head_dim].
void add_parts(const Parts& parts,
               const float* from,
               std::int64_t num_slots,
               bool first,
               float* d,
               ThreadPool& pool) {
  constexpr std::int64_t kRows = 32;
  const auto& op = rows::ops<float>();
  pool.for_chunks(parts.num_rows, kRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = 0; h < parts.num_kv_heads; ++h) {
      for (std::int64_t row = begin; row < end; ++row) {
        float* out = d + (row * parts.num_kv_heads + h) * parts.head_dim;
        for (std::int64_t slot = 0; slot < num_slots; ++slot) {
          const float* part = from + parts.at(slot, h, row);
          if (first && slot == 0) {
            std::copy(part, part + parts.head_dim, out);
          } else {
            op.add(out, out, part, parts.head_dim);
          }
        }
      }
    }
  });
}

}  // namespace

template <class T>
std::int64_t backward_bytes(const ScratchRequest& r, int num_threads) {
  Carver carver(nullptr);
  for (int i = 0; i < num_threads; ++i) Scratch<T>().take(carver, r.head_dim);
  Parts{nullptr, nullptr, r.num_kv_heads, r.num_queries, r.head_dim}.take(
      carver, heads_at_once(r.num_heads, r.num_kv_heads, num_threads));
  carver.take<float>(r.num_queries * r.num_heads);
  return carver.used() + PackedKeys<T>::max_bytes(r, 1, false);
}

template <class T>
void backward(const BackwardArgs<T>& args, ThreadPool& pool) {
  const Problem& p = args.forward.problem;
  const auto num_segments = static_cast<std::int64_t>(p.segments.size());
  std::int64_t num_rows = 0;
  for (const Segment& segment : p.segments) num_rows += segment.q_len;
  const std::int64_t group = p.num_heads / p.num_kv_heads;
  const std::int64_t at_once = heads_at_once(p.num_heads, p.num_kv_heads, pool.num_threads());
  Carver carver(args.forward.scratch);
  std::vector<Scratch<T>> scratch(static_cast<std::size_t>(pool.num_threads()));
  for (Scratch<T>& s : scratch) s.take(carver, p.head_dim);
  Parts parts{nullptr, nullptr, p.num_kv_heads, num_rows, p.head_dim};
  parts.take(carver, at_once);
  auto* deltas = carver.take<float>(num_rows * p.num_heads);
  dot_outputs(args, num_rows, deltas, pool);
  const KeyBlocks blocks(p.segments, 1);
  PackedKeys<T> keys(p, blocks, false);
  keys.pack(args.forward.k, args.forward.k_stride, carver, pool);
  for (std::int64_t begin = 0; begin < group; begin += at_once) {
    const std::int64_t slots = std::min(at_once, group - begin);
    pool.run(num_segments * p.num_kv_heads * slots, [&](std::int64_t task, int worker) {
      const std::int64_t slot = task % slots, kv_head = task / slots % p.num_kv_heads;
      HeadTask<T>{args,
                  blocks,
                  keys,
                  parts,
                  deltas,
                  scratch[static_cast<std::size_t>(worker)],
                  pool,
                  static_cast<std::size_t>(task / slots / p.num_kv_heads),
                  kv_head * group + begin + slot,
                  kv_head,
                  slot}
          .run();
    });
    add_parts(parts, parts.d_k, slots, begin == 0, args.d_k, pool);
    add_parts(parts, parts.d_v, slots, begin == 0, args.d_v, pool);
  }
}

template std::int64_t backward_bytes<float>(const ScratchRequest&, int);
template std::int64_t backward_bytes<bf16>(const ScratchRequest&, int);
template void backward<float>(const BackwardArgs<float>&, ThreadPool&);
template void backward<bf16>(const BackwardArgs<bf16>&, ThreadPool&);

}  // namespace moesmith::kernels::attention
