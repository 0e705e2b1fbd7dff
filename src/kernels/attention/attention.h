// SPDX-License-Identifier: Apache-2.0
// out = softmax(scale * q k^T + mask) v for each head, block-diagonal over segments, causal,
// optionally within a window; several query heads share a key-value head. Memory is O(tokens):
// blocks of scores with a running maximum forward, recomputed from the saved log-sum backward.
#pragma once

#include <cstdint>
#include <span>

#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::attention {

// Query rows [q_begin, q_begin + q_len) attend to key rows [k_begin, k_begin + past + q_len): the
// query at q_begin + i stands at position past + i.
struct Segment {
  std::int64_t q_begin = 0, q_len = 0, k_begin = 0, past = 0;
};

struct Problem {
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  float scale = 1.0f;       // > 0
  std::int64_t window = 0;  // the query at p sees the keys (p - window, p]; 0: all up to p
  std::span<const Segment> segments;
};

// A token's heads lie one after the other; tokens are `*_stride` elements apart.
template <class T>
struct Args {
  Problem problem;
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  T* out = nullptr;          // [num_queries, num_heads * head_dim]
  float* log_sum = nullptr;  // [num_queries, num_heads]; log of the sum of exp(scores)
  void* scratch = nullptr;   // scratch_bytes<T>(), 64-byte aligned
};

// What the scratch depends on.
struct ScratchRequest {
  std::int64_t num_queries = 0;  // of all segments
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool backward = false;  // enough for backward() too
};
template <class T>
std::int64_t scratch_bytes(const ScratchRequest& request, int num_threads);

template <class T>
void forward(const Args<T>& args, ThreadPool& pool);

// Only for segments without past.
template <class T>
struct BackwardArgs {
  Args<T> forward;           // as it was; out and log_sum are read
  const T* d_out = nullptr;  // [num_queries, num_heads * head_dim]
  // Overwritten. d_q [num_queries, num_heads * head_dim]; d_k and d_v [num_queries, num_kv_heads *
  // head_dim], f32.
  float* d_q = nullptr;
  float* d_k = nullptr;
  float* d_v = nullptr;
};

template <class T>
void backward(const BackwardArgs<T>& args, ThreadPool& pool);

}  // namespace moesmith::kernels::attention
