// SPDX-License-Identifier: Apache-2.0
// batched_mm's passes for T, the compute dtype (float or bf16), and what they share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/thread_pool.h"
#include "experts/batched_mm/workspace.h"
#include "experts/weights.h"
#include "kernels/gemv/gemv.h"
#include "kernels/rows/rows.h"
#include "moesmith/experts.h"

namespace moesmith::experts::batched_mm {

// Rows of [num_rows, width] f32 values: row r lies at r, or at the token of slot_of[r].
struct Rows {
  const float* base = nullptr;
  std::int64_t stride = 0;
  const std::int64_t* slot_of = nullptr;
  std::int64_t top_k = 1;
  const bf16* narrow = nullptr;  // the same values, or nullptr

  std::int64_t offset(std::int64_t r) const {
    return (slot_of == nullptr ? r : slot_of[r] / top_k) * stride;
  }
  const float* row(std::int64_t r) const { return base + offset(r); }
};

// What every task of one call knows.
template <class T>
struct Pass {
  const ExpertsRequest& request;
  const ExpertsInputs& inputs;
  const Work<T>& work;
  ThreadPool& pool;
  const float* x;  // [T, H]

  WorkerScratch worker(int number) const {
    return work.workers.worker(request, inputs.num_tokens, number);
  }
  Rows by_token(const float* base, std::int64_t width) const {
    return {base, width, work.index.slot_of, request.top_k};
  }
  Rows by_row(const float* base, std::int64_t width) const { return {base, width}; }
  // x, a and u are of compute dtype and kept in f32 beside.
  Rows x_rows() const {
    Rows rows = by_token(x, request.hidden);
    if constexpr (std::is_same_v<T, bf16>) rows.narrow = static_cast<const bf16*>(inputs.hidden);
    return rows;
  }
  Rows by_row(const Rounded<T>& values, std::int64_t width, std::int64_t first = 0) const {
    Rows rows = by_row(values.wide + first, width);
    if constexpr (std::is_same_v<T, bf16>) rows.narrow = values.narrow + first;
    return rows;
  }
  float weight_of(std::int64_t row) const {
    return static_cast<float>(
        route_weight(inputs, request.route_weights_dtype, work.index.slot_of[row]));
  }
  // A of an expert, [r, in], as it lies in PEFT's layout.
  kernels::gemm::Operand a_operand(const LoraSpec& lora,
                                   const LoraFactors& factors,
                                   std::int64_t expert,
                                   std::int64_t in,
                                   bool transposed) const {
    const void* a = advance(factors.a, lora.dtype, expert * lora.lora_rank * in);
    return transposed ? kernels::gemm::transposed(a, lora.dtype, in)
                      : kernels::gemm::row_major(a, lora.dtype, in);
  }
  // B of a hit, [out, r].
  kernels::gemm::Operand b_operand(const PackedB<T>& b, std::int64_t hit, bool transposed) const {
    return transposed ? kernels::gemm::transposed(b.of(hit), DTypeOf<T>::value, b.lora_rank)
                      : kernels::gemm::row_major(b.of(hit), DTypeOf<T>::value, b.lora_rank);
  }
  // Columns per task: few pieces, as prefetchers start anew with each (8 tasks a thread read 10 %
  // more a second than 16, and 16 than 32), but enough for an even load. Each element is one
  // task's, so that the cut changes no bit.
  std::int64_t columns_per_task(std::int64_t columns,
                                std::int64_t parts,
                                bool streams,
                                std::int64_t most = kMaxColumns) const {
    const std::int64_t least = streams ? 16 : 128;
    const std::int64_t wanted = ceil_div(columns * parts, std::int64_t{8} * pool.num_threads());
    return std::min(most, std::max(least, round_up(wanted, std::int64_t{16})));
  }
};

// B from column n0 on.
inline kernels::gemm::Operand from_column(kernels::gemm::Operand b, std::int64_t n0) {
  b.data = advance(b.data, b.dtype, n0 * b.col_stride);
  return b;
}

// out [end - begin, n] (+)= rows B; at most kRowGroup rows.
inline void multiply(const Rows& rows,
                     std::int64_t begin,
                     std::int64_t end,
                     std::int64_t k,
                     const kernels::gemm::Operand& b,
                     std::int64_t n,
                     float* out,
                     std::int64_t ld,
                     bool add) {
  const float* pointers[kRowGroup];
  const bf16* narrow[kRowGroup];
  for (std::int64_t r = begin; r < end; ++r) {
    pointers[r - begin] = rows.row(r);
    if (rows.narrow != nullptr) narrow[r - begin] = rows.narrow + rows.offset(r);
  }
  kernels::gemv::run(
      {pointers, rows.narrow != nullptr ? narrow : nullptr, end - begin, b, n, k, out, ld, add});
}

// The head of a piece of weights that is read next, before a prefetcher has found it.
inline void prefetch_head(const kernels::gemm::Operand& b) {
  for (int line = 0; line < 32; ++line) {
    __builtin_prefetch(static_cast<const char*>(b.data) + line * 64, 0, 2);
  }
}

// Calls body(begin, end) for groups of rows.
template <class Body>
void for_groups(std::int64_t begin, std::int64_t end, const Body& body) {
  for (std::int64_t r = begin; r < end; r += kRowGroup) body(r, std::min(end, r + kRowGroup));
}

// n values in f32.
inline void widen(const void* from, DType dtype, std::int64_t n, float* to) {
  if (dtype == DType::kBF16) {
    kernels::rows::ops<bf16>().to_f32(to, static_cast<const bf16*>(from), 1.0f, n);
  } else {
    std::copy_n(static_cast<const float*>(from), n, to);
  }
}

// What the tasks read: x in f32, the hits, and B of the hits.
template <class T>
const float* prepare(const ExpertsRequest& request, const ExpertsInputs& inputs, Work<T>& work);
template <class T>
void pack_b(const Pass<T>& pass);

// h [rows, 2I] = x W1^T + u1 B1^T + b1 and a [rows, I] = act(h); either may be null.
template <class T>
void pre_activation(const Pass<T>& pass, T* h, const Rounded<T>& a);

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);

// The gradients of weights, factors and biases: sums over an expert's rows of what the first half
// of backward left in `work`; dy [T, H].
template <class T>
void sum_over_rows(const Pass<T>& pass, const BackwardArgs& args, const float* dy);

}  // namespace moesmith::experts::batched_mm
