// SPDX-License-Identifier: Apache-2.0
// What forward and backward share: blocks of queries, what they see of a block of keys, and keys
// and values packed once for all the queries that meet them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/checked.h"
#include "kernels/attention/attention.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/packed_b.h"

namespace moesmith::kernels::attention {

// A block's scores in f32, their bf16 copy and the running output stay within a 1 MiB L2 together.
constexpr std::int64_t kBlockQ = 128;
constexpr std::int64_t kBlockK = 128;
// Where queries meet their own keys, half of a block's first half sees nothing: it is cut there. A
// multiple of every register tile's width.
constexpr std::int64_t kHalf = 64;

// Query rows [begin, begin + rows) of a segment, and the keys any of them sees.
struct Block {
  std::int64_t begin, rows, first_key, end_key;
};
inline Block block_of(const Segment& segment, std::int64_t window, std::int64_t block) {
  const std::int64_t begin = block * kBlockQ;
  const std::int64_t rows = std::min(kBlockQ, segment.q_len - begin);
  const std::int64_t position = segment.past + begin;
  const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, position - window + 1) : 0;
  // Blocks of keys begin at multiples of their size, so that each is packed once.
  return {begin, rows, first / kBlockK * kBlockK, position + rows};
}

// [first, last]; last < first when empty.
struct Seen {
  std::int64_t first, last;
};

// Hands out scratch from the front; without memory it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <class U>
  U* take(std::int64_t count) {
    const std::int64_t at = used_;
    used_ += round_up(count * static_cast<std::int64_t>(sizeof(U)), 64);
    return base_ == nullptr ? nullptr : reinterpret_cast<U*>(base_ + at);
  }
  std::int64_t used() const { return used_; }

 private:
  char* base_;
  std::int64_t used_ = 0;
};

// Blocks of keys of all segments, numbered in order.
class KeyBlocks {
 public:
  // Segments shorter than `min_length` have none.
  KeyBlocks(std::span<const Segment> segments, std::int64_t min_length) {
    first_.push_back(0);
    for (const Segment& s : segments) {
      const bool any = s.past == 0 && s.q_len >= min_length;
      first_.push_back(first_.back() + (any ? ceil_div(s.q_len, kBlockK) : 0));
    }
  }
  std::int64_t count() const { return first_.back(); }
  bool has(std::size_t segment) const { return first_[segment + 1] > first_[segment]; }
  std::int64_t number(std::size_t segment, std::int64_t key) const {
    return first_[segment] + key / kBlockK;
  }
  std::size_t segment_of(std::int64_t number) const {
    const auto next = std::upper_bound(first_.begin(), first_.end(), number);
    return static_cast<std::size_t>(next - first_.begin() - 1);
  }
  std::int64_t first_key(std::size_t segment, std::int64_t number) const {
    return (number - first_[segment]) * kBlockK;
  }

 private:
  std::vector<std::int64_t> first_;
};

// The blocks of one of k and v for every head of theirs: [keys, head_dim] or its transpose as the B
// of a product.
template <class T>
class PackedKeys {
 public:
  PackedKeys(const Problem& problem, const KeyBlocks& blocks, bool transposed)
      : problem_(problem), blocks_(blocks), transposed_(transposed) {}

  // At most what pack() takes for segments that are not shorter than min_length.
  static std::int64_t max_bytes(const ScratchRequest& r, std::int64_t min_length, bool transposed) {
    const std::int64_t segments = r.num_queries / min_length;
    const std::int64_t blocks = segments + r.num_queries / kBlockK;
    // Of each block at most 15 columns or a row of padding, and 63 bytes of alignment.
    const std::int64_t keys = r.num_queries + (transposed ? 15 : 1) * blocks;
    const std::int64_t one = transposed ? size(r.head_dim, keys) : size(keys, r.head_dim);
    return r.num_kv_heads * (one + 64 * blocks);
  }

  // From [keys, kv heads * head_dim] with rows `stride` apart.
  void pack(const T* from, std::int64_t stride, Carver& carver, ThreadPool& pool) {
    const std::int64_t heads = problem_.num_kv_heads, dim = problem_.head_dim;
    std::vector<char*> storage;
    for (std::int64_t i = 0; i < blocks_.count() * heads; ++i) {
      const std::int64_t keys = num_keys(i / heads);
      storage.push_back(carver.take<char>(transposed_ ? size(dim, keys) : size(keys, dim)));
    }
    packed_.resize(storage.size());
    pool.run(static_cast<std::int64_t>(storage.size()), [&](std::int64_t i, int) {
      const std::int64_t number = i / heads, head = i % heads;
      const std::size_t s = blocks_.segment_of(number);
      const T* rows = from +
                      (problem_.segments[s].k_begin + blocks_.first_key(s, number)) * stride +
                      head * dim;
      const gemm::Operand operand = transposed_ ? gemm::transposed(rows, DTypeOf<T>::value, stride)
                                                : gemm::row_major(rows, DTypeOf<T>::value, stride);
      const std::int64_t keys = num_keys(number);
      packed_[static_cast<std::size_t>(i)].emplace(operand, transposed_ ? dim : keys,
                                                   transposed_ ? keys : dim, DTypeOf<T>::value,
                                                   pool, storage[static_cast<std::size_t>(i)]);
    });
  }
  const gemm::PackedB* get(std::int64_t number, std::int64_t head) const {
    return &*packed_[static_cast<std::size_t>(number * problem_.num_kv_heads + head)];
  }

 private:
  static std::int64_t size(std::int64_t k, std::int64_t n) {
    return gemm::PackedB::storage_bytes(k, n, DTypeOf<T>::value, DTypeOf<T>::value);
  }
  std::int64_t num_keys(std::int64_t number) const {
    const std::size_t s = blocks_.segment_of(number);
    return std::min(kBlockK, problem_.segments[s].q_len - blocks_.first_key(s, number));
  }

  const Problem& problem_;
  const KeyBlocks& blocks_;
  bool transposed_;
  std::vector<std::optional<gemm::PackedB>> packed_;
};

// Bytes that the two passes take, for scratch_bytes().
template <class T>
std::int64_t forward_bytes(const ScratchRequest& request, int num_threads);
template <class T>
std::int64_t backward_bytes(const ScratchRequest& request, int num_threads);

}  // namespace moesmith::kernels::attention
