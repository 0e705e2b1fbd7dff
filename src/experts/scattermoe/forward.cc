// SPDX-License-Identifier: Apache-2.0
// u1 = s1 x A1^T; by blocks of rows and columns h = x W1^T + u1 B1^T + b1 and a = act(h) while h is
// in cache; u2 = s2 a A2^T; by stripes of columns y += w (a W2^T + u2 B2^T + b2).
#include <algorithm>

#include "core/cpu_features.h"
#include "experts/activation/activation.h"
#include "experts/scattermoe/passes.h"
#include "experts/weights.h"

namespace moesmith::experts::scattermoe {
namespace {

using kernels::cpu::kTileRows;

// bias [n] of an expert in f32.
void widen_bias(const void* bias, DType dtype, std::int64_t first, std::int64_t n, float* to) {
  const void* from = advance(bias, dtype, first);
  if (dtype == DType::kBF16) {
    kernels::rows::ops<bf16>().to_f32(to, static_cast<const bf16*>(from), 1.0f, n);
  } else {
    std::copy_n(static_cast<const float*>(from), n, to);
  }
}

template <class T>
struct PreActivation {
  const Pass<T>& pass;
  const T* u_1;
  T* h;
  T* a;

  // The rows of the next tile, which will be written a few lines each.
  void fetch_to_write(std::int64_t row, const HRange& range, std::int64_t i0) const {
    if (row >= pass.index.num_rows) return;
    for (int c = 0; h != nullptr && c < range.count; ++c) {
      const T* from = h + row * pass.request.gate_up_width() + range.columns[c].first;
      for (std::int64_t i = 0; i < range.columns[c].count; i += 64 / sizeof(T)) {
        __builtin_prefetch(from + i, 1);
      }
    }
    if (a == nullptr) return;
    for (std::int64_t i = 0; i < inter_block(pass.request); i += 64 / sizeof(T)) {
      __builtin_prefetch(a + row * pass.request.inter + i0 + i, 1);
    }
  }

  // One row of a block's sums.
  void finish(std::int64_t row,
              const HRange& range,
              std::int64_t i0,
              std::int64_t n,
              float* sums,
              const float* bias) const {
    const ExpertsRequest& request = pass.request;
    T tile_row[kBlockColumns];
    T* h_row = h == nullptr ? nullptr : h + row * request.gate_up_width();
    fetch_to_write(row + kTileRows, range, i0);
    for (int c = 0; c < range.count; ++c) {
      const HColumns& columns = range.columns[c];
      float* from = sums + columns.at;
      if (bias != nullptr) {
        kernels::rows::ops<float>().axpy(from, bias + columns.first, 1.0f, columns.count);
      }
      T* to = h_row == nullptr ? tile_row + columns.at : h_row + columns.first;
      kernels::rows::ops<T>().from_f32(to, from, 1.0f, columns.count);
    }
    if (a == nullptr) return;
    GateUp<const T> gate_up;
    if (h_row != nullptr) {
      gate_up = gate_up_of_row<const T>(request, h_row, i0);
    } else if (range.count == 1) {
      gate_up = {tile_row, tile_row + 1, request.activation.gated ? 2 : 1};
    } else {
      gate_up = {tile_row, tile_row + range.columns[1].at, 1};
    }
    activation_ops<T>().forward(request.activation, gate_up, a + row * request.inter + i0, n);
  }

  std::int64_t num_i_blocks() const {
    return ceil_div(pass.request.inter, inter_block(pass.request));
  }

  Block block_at(const RowBlock& rows, std::int64_t i_block) const {
    const std::int64_t i0 = i_block * inter_block(pass.request);
    const std::int64_t n = std::min(inter_block(pass.request), pass.request.inter - i0);
    return pass.h_block(rows.expert, u_1, i_block, h_range(pass.request, i0, n));
  }

  // Blocks [first, end) of columns, one after the other.
  void run(const RowBlock& rows,
           std::int64_t first,
           std::int64_t end,
           const WorkerScratch& scratch) const {
    BlockStream stream(scratch.block);
    for_blocks(
        first, end, [&](std::int64_t i) { return block_at(rows, i); },
        [&](std::int64_t i, const Block& block, const Block* next) {
          run_block(rows, i, stream, block, next, scratch);
        });
  }

  void run_block(const RowBlock& rows,
                 std::int64_t i_block,
                 BlockStream& stream,
                 const Block& block,
                 const Block* next,
                 const WorkerScratch& scratch) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t i0 = i_block * inter_block(request), width = request.gate_up_width();
    const std::int64_t n = std::min(inter_block(request), request.inter - i0);
    const HRange range = h_range(request, i0, n);
    const float* bias = nullptr;
    if (request.gate_up_bias) {
      for (int c = 0; c < range.count; ++c) {
        const HColumns& columns = range.columns[c];
        widen_bias(pass.inputs.weights.gate_up_bias, request.weight_dtype,
                   rows.expert * width + columns.first, columns.count,
                   scratch.bias + columns.first);
      }
      bias = scratch.bias;
    }
    stream.run(block, next, {rows.begin, rows.end},
               [&](std::int64_t row, float* sums) { finish(row, range, i0, n, sums, bias); });
  }
};

template <class T>
void down(const Pass<T>& pass,
          const T* a,
          const T* u_2,
          T* output,
          std::int64_t stripe,
          const WorkerOf& worker_of,
          ThreadPool& pool) {
  const ExpertsRequest& request = pass.request;
  const std::int64_t hidden = request.hidden, rank = pass.lora_2.lora_rank;
  const auto block_of = [&](std::int64_t expert, std::int64_t c0, std::int64_t n) {
    Block block = pass.new_block();
    pass.weights.add_down(block, pass.by_row(a, request.inter), expert, c0, n);
    if (rank > 0) {
      const auto b = kernels::gemm::transposed(pass.lora_2.b_of(expert), DTypeOf<T>::value, rank);
      add_strip(block.add(pass.by_row(u_2, rank), rank), from_column(b, c0), n, 0);
    }
    return block;
  };
  const auto start = [&](std::int64_t expert, std::int64_t c0, std::int64_t n,
                         const WorkerScratch& scratch) {
    if (!request.down_bias) return;
    widen_bias(pass.inputs.weights.down_bias, request.weight_dtype, expert * hidden + c0, n,
               scratch.bias);
  };
  const auto add = [&](std::int64_t row, float* sums, std::int64_t n, const WorkerScratch& scratch,
                       float* to) {
    const auto& ops = kernels::rows::ops<float>();
    if (request.down_bias) ops.axpy(sums, scratch.bias, 1.0f, n);
    ops.axpy(to, sums, pass.weight_of(row), n);
  };
  const auto store = [&](std::int64_t token, std::int64_t c0, std::int64_t n, const float* from) {
    kernels::rows::ops<T>().from_f32(output + token * hidden + c0, from, 1.0f, n);
  };
  combine(pass, stripe, worker_of, pool, block_of, start, add, store);
}

}  // namespace

template <class T>
void pre_activation(
    const Pass<T>& pass, const T* u_1, T* h, T* a, const WorkerOf& worker_of, ThreadPool& pool) {
  const PreActivation<T> products{pass, u_1, h, a};
  run_grouped(pass, products.num_i_blocks(), pool,
              [&](const RowBlock& rows, std::int64_t first, std::int64_t end, int worker) {
                products.run(rows, first, end, worker_of(worker));
              });
}

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  const ExpertsInputs& inputs = args.inputs;
  const std::int64_t num_tokens = inputs.num_tokens;
  Carver carver(args.scratch.data());
  ForwardWork<T> work = ForwardWork<T>::carve(carver, request, num_tokens, pool.num_threads());
  build_routing(inputs, request.index_dtype, work.index);
  work.num_blocks = cut_rows(work.index, work.blocks);
  pack_lora(request.gate_up_lora, inputs.gate_up_lora, work.index, work.lora_1, pool);
  pack_lora(request.down_lora, inputs.down_lora, work.index, work.lora_2, pool);

  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens));
  T* u_1 = saved.u_1 != nullptr ? static_cast<T*>(saved.u_1) : work.u_1;
  T* u_2 = saved.u_2 != nullptr ? static_cast<T*>(saved.u_2) : work.u_2;
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

  if (work.lora_1.lora_rank > 0) {
    project(pass, pass.x(), request.hidden, work.lora_1.lora_rank, request.gate_up_lora.lora_scale,
            u_1, worker_of, pool, [&](std::int64_t e) {
              return kernels::gemm::transposed(work.lora_1.a_of(e), compute, request.hidden);
            });
  }
  pre_activation<T>(pass, u_1, static_cast<T*>(saved.h), work.a, worker_of, pool);
  if (work.lora_2.lora_rank > 0) {
    project(pass, pass.by_row(work.a, request.inter), request.inter, work.lora_2.lora_rank,
            request.down_lora.lora_scale, u_2, worker_of, pool, [&](std::int64_t e) {
              return kernels::gemm::transposed(work.lora_2.a_of(e), compute, request.inter);
            });
  }
  down<T>(pass, work.a, u_2, static_cast<T*>(args.output), work.stripe, worker_of, pool);
}

#define MOESMITH_INSTANTIATE(T)                                                                 \
  template void pre_activation(const Pass<T>&, const T*, T*, T*, const WorkerOf&, ThreadPool&); \
  template void run_forward<T>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::experts::scattermoe
