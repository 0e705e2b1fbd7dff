// SPDX-License-Identifier: Apache-2.0
// v2 = s2 dy B2; by blocks of rows and columns dA' = dy W2 + v2 A2, and while it is in cache the
// routing weight's <dA', a> and dh = act'(h) (w dA'); v1 = s1 dh B1; by stripes of columns
// dx += dh W1 + v1 A1. Sums over rows are in row_sums.cc.
#include <algorithm>

#include "core/cpu_features.h"
#include "experts/activation/activation.h"
#include "experts/gradients.h"
#include "experts/scattermoe/passes.h"
#include "experts/weights.h"

namespace moesmith::experts::scattermoe {
namespace {

constexpr std::int64_t kTokenChunk = 64;

template <class T>
struct Backward {
  const Pass<T>& pass;
  const BackwardArgs& args;
  const BackwardWork<T>& work;
  const SavedState& saved;  // h wherever it was kept
  const T* dy;
  const Needs needs;
  const WorkerOf& worker_of;
  ThreadPool& pool;

  std::int64_t num_i_blocks() const {
    return ceil_div(pass.request.inter, d_a_columns(pass.request));
  }

  // What activation() will read and write of a row of the next tile.
  void fetch(std::int64_t row, std::int64_t i0, std::int64_t n) const {
    if (row >= pass.index.num_rows) return;
    const ExpertsRequest& request = pass.request;
    const std::int64_t width = request.gate_up_width();
    const auto h = gate_up_of_row(request, static_cast<const T*>(saved.h) + row * width, i0);
    const std::int64_t up = h.up - h.gate;  // 1 when interleaved
    for (std::int64_t i = 0; i < n * h.stride; i += 64 / static_cast<std::int64_t>(sizeof(T))) {
      for (const std::int64_t at : {i, i + up}) {
        __builtin_prefetch(h.gate + at);
        if (work.d_h != nullptr)
          __builtin_prefetch(work.d_h + (h.gate - static_cast<const T*>(saved.h)) + at, 1);
      }
    }
  }

  // d_a [n] of one row of a block's sums.
  void activation(std::int64_t row, std::int64_t i0, std::int64_t n, const float* d_a) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t width = request.gate_up_width();
    T unused[2 * kBlockColumns];  // where only the routing weight's gradient is wanted
    GateUp<T> d_h{unused, unused + kBlockColumns, 1};
    if (work.d_h != nullptr) d_h = gate_up_of_row(request, work.d_h + row * width, i0);
    const T* h = static_cast<const T*>(saved.h) + row * width;
    T* a = work.a == nullptr ? nullptr : work.a + row * request.inter + i0;
    const float product =
        activation_ops<T>().backward(request.activation, gate_up_of_row<const T>(request, h, i0),
                                     d_a, pass.weight_of(row), d_h, a, n);
    if (work.d_weights != nullptr) {
      work.d_weights[row * num_i_blocks() + i0 / d_a_columns(pass.request)] = product;
    }
  }

  Block d_a_block(std::int64_t expert, std::int64_t i_block) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t i0 = i_block * d_a_columns(pass.request);
    const std::int64_t n = std::min(d_a_columns(pass.request), request.inter - i0);
    Block block = pass.new_block();
    pass.weights.add_d_a(block, pass.by_token(dy, request.hidden), expert, i0, n);
    const std::int64_t rank = pass.lora_2.lora_rank;
    if (rank > 0) {
      const auto a =
          kernels::gemm::row_major(pass.lora_2.a_of(expert), DTypeOf<T>::value, request.inter);
      add_strip(block.add(pass.by_row(work.v_2, rank), rank), from_column(a, i0), n, 0);
    }
    return block;
  }

  void run_d_a() const {
    const auto run_blocks = [&](const RowBlock& rows, std::int64_t first_block, std::int64_t end,
                                int worker) {
      BlockStream stream(worker_of(worker).block);
      const auto block_of = [&](std::int64_t i) { return d_a_block(rows.expert, i); };
      for_blocks(first_block, end, block_of,
                 [&](std::int64_t i_block, const Block& block, const Block* next) {
                   const std::int64_t i0 = i_block * d_a_columns(pass.request);
                   const std::int64_t n =
                       std::min(d_a_columns(pass.request), pass.request.inter - i0);
                   stream.run(block, next, {rows.begin, rows.end},
                              [&](std::int64_t row, const float* sums) {
                                fetch(row + kernels::cpu::kTileRows, i0, n);
                                activation(row, i0, n, sums);
                              });
                 });
    };
    run_grouped(pass, num_i_blocks(), pool, run_blocks);
  }

  // <dA', a> by block, in their order, + <dy, b2>.
  void run_d_weights() const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t hidden = request.hidden;
    pool.for_chunks(pass.index.num_rows, kTokenChunk, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        float sum = 0;
        for (std::int64_t b = 0; b < num_i_blocks(); ++b) {
          sum += work.d_weights[row * num_i_blocks() + b];
        }
        if (request.down_bias) sum += bias_part(row, hidden);
        store_gradient(request.wanted.top_k_weights, args.gradients.top_k_weights,
                       pass.index.slot_of[row], &sum, 1);
      }
    });
    store_skipped_slots(request, args, pass.index);
  }

  float bias_part(std::int64_t row, std::int64_t hidden) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t expert = expert_of(row);
    const T* gradient = dy + pass.token_of(row) * hidden;
    double sum = 0;
    for (std::int64_t i = 0; i < hidden; ++i) {
      sum += static_cast<double>(static_cast<float>(gradient[i])) *
             element(pass.inputs.weights.down_bias, request.weight_dtype, expert * hidden + i);
    }
    return static_cast<float>(sum);
  }

  std::int64_t expert_of(std::int64_t row) const {
    const std::int64_t* begin = pass.index.offsets;
    const std::int64_t* end = begin + pass.index.num_experts + 1;
    return std::upper_bound(begin, end, row) - begin - 1;
  }

  void run_d_hidden() const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t hidden = request.hidden, width = request.gate_up_width();
    const std::int64_t rank = pass.lora_1.lora_rank;
    const auto block_of = [&](std::int64_t expert, std::int64_t c0, std::int64_t n) {
      Block block = pass.new_block();
      pass.weights.add_d_hidden(block, pass.by_row(work.d_h, width), expert, c0, n);
      if (rank > 0) {
        const auto a =
            kernels::gemm::row_major(pass.lora_1.a_of(expert), DTypeOf<T>::value, hidden);
        add_strip(block.add(pass.by_row(work.v_1, rank), rank), from_column(a, c0), n, 0);
      }
      return block;
    };
    const auto start = [](std::int64_t, std::int64_t, std::int64_t, const WorkerScratch&) {};
    const auto add = [](std::int64_t, const float* sums, std::int64_t n, const WorkerScratch&,
                        float* stripe) { kernels::rows::ops<float>().axpy(stripe, sums, 1.0f, n); };
    const auto store = [&](std::int64_t token, std::int64_t c0, std::int64_t n,
                           const float* stripe) {
      store_gradient(request.wanted.hidden, args.gradients.hidden, token * hidden + c0, stripe, n);
    };
    combine(pass, work.stripe, worker_of, pool, block_of, start, add, store);
  }

  // a, unless d_a left it, and w a by rows, for gradients of down and its A; w v2 and w u2.
  void weigh_rows() const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t inter = request.inter, rank = pass.lora_2.lora_rank;
    pool.for_chunks(pass.index.num_rows, kTokenChunk, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const float weight = pass.weight_of(row);
        if (work.a != nullptr && !needs.d_a) {
          const T* h = static_cast<const T*>(saved.h) + row * request.gate_up_width();
          activation_ops<T>().forward(request.activation, gate_up_of_row<const T>(request, h),
                                      work.a + row * inter, inter);
        }
        weigh(work.weighted_a, work.a, row, inter, weight);
        weigh(work.weighted_v_2, work.v_2, row, rank, weight);
        weigh(work.weighted_u_2, static_cast<const T*>(saved.u_2), row, rank, weight);
      }
    });
  }

  bool weighs_rows() const {
    return (work.a != nullptr && !needs.d_a) || work.weighted_a != nullptr ||
           work.weighted_v_2 != nullptr || work.weighted_u_2 != nullptr;
  }

  static void weigh(T* to, const T* from, std::int64_t row, std::int64_t n, float weight) {
    if (to == nullptr) return;
    constexpr std::int64_t kChunk = 256;
    float wide[kChunk];
    for (std::int64_t i = 0; i < n; i += kChunk) {
      const std::int64_t count = std::min(kChunk, n - i), at = row * n + i;
      kernels::rows::ops<T>().to_f32(wide, from + at, 1.0f, count);
      kernels::rows::ops<T>().from_f32(to + at, wide, weight, count);
    }
  }

  void run() const {
    const ExpertsRequest& request = pass.request;
    const DType compute = DTypeOf<T>::value;
    if (needs.v_2) {
      const std::int64_t rank = pass.lora_2.lora_rank;
      project(pass, pass.by_token(dy, request.hidden), request.hidden, rank,
              request.down_lora.lora_scale, work.v_2, worker_of, pool, [&](std::int64_t e) {
                return kernels::gemm::row_major(pass.lora_2.b_of(e), compute, rank);
              });
    }
    if (needs.d_a) run_d_a();
    if (work.d_weights != nullptr) run_d_weights();
    if (needs.v_1) {
      const std::int64_t rank = pass.lora_1.lora_rank, width = request.gate_up_width();
      project(pass, pass.by_row(work.d_h, width), width, rank, request.gate_up_lora.lora_scale,
              work.v_1, worker_of, pool, [&](std::int64_t e) {
                return kernels::gemm::row_major(pass.lora_1.b_of(e), compute, rank);
              });
    }
    if (request.wanted.hidden.wanted()) run_d_hidden();
    if (weighs_rows()) weigh_rows();
  }
};

// d_output in the compute dtype.
template <class T>
const T* converted(const ExpertsRequest& request,
                   const BackwardArgs& args,
                   T* to,
                   ThreadPool& pool) {
  if (to == nullptr) return static_cast<const T*>(args.d_output);
  const float* from = static_cast<const float*>(args.d_output);
  pool.for_chunks(args.inputs.num_tokens, kTokenChunk, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t at = begin * request.hidden, n = (end - begin) * request.hidden;
    kernels::rows::ops<T>().from_f32(to + at, from + at, 1.0f, n);
  });
  return to;
}

}  // namespace

template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  const ExpertsInputs& inputs = args.inputs;
  const std::int64_t num_tokens = inputs.num_tokens;
  Carver carver(args.scratch.data());
  BackwardWork<T> work = BackwardWork<T>::carve(carver, request, num_tokens, pool.num_threads());
  build_routing(inputs, request.index_dtype, work.index);
  work.num_blocks = cut_rows(work.index, work.blocks);
  pack_lora(request.gate_up_lora, inputs.gate_up_lora, work.index, work.lora_1, pool);
  pack_lora(request.down_lora, inputs.down_lora, work.index, work.lora_2, pool);

  SavedState saved = SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens));
  const DType compute = DTypeOf<T>::value;
  const auto& tile = kernels::cpu::tile_for(active_isa(), compute, request.weight_dtype);
  const Pass<T> pass{request,
                     inputs,
                     work.index,
                     work.lora_1,
                     work.lora_2,
                     work.blocks,
                     work.num_blocks,
                     tile,
                     kernels::cpu::tile_for(active_isa(), compute, compute),
                     WeightTerms(request, inputs.weights, tile, inputs.packed_weights)};
  const auto scratch_of = [&](int worker) { return work.worker(request, num_tokens, worker); };
  const WorkerOf worker_of = scratch_of;
  if (work.h != nullptr) {
    pre_activation<T>(pass, static_cast<const T*>(saved.u_1), work.h, nullptr, worker_of, pool);
    saved.h = work.h;
  }
  const T* dy = converted(request, args, work.dy, pool);
  Backward<T>{pass, args, work, saved, dy, Needs(request), worker_of, pool}.run();
  sum_over_rows(pass, args, work, saved, dy, worker_of, pool);
}

template void run_backward<float>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<bf16>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::scattermoe
