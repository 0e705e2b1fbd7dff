// SPDX-License-Identifier: Apache-2.0
// v2 = s2 dy B2; by expert and columns of I dA' = dy W2 + v2 A2, the routing weight's <dA', a> and
// dh = act'(h) (w dA'); v1 = s1 dh B1; by columns of H dx = sum of dh W1 + v1 A1 over a token's
// slots, in their order. Sums over rows are in row_sums.cc. u and v are not rounded here.
#include "experts/activation/activation.h"
#include "experts/batched_mm/passes.h"
#include "experts/gradients.h"

namespace moesmith::experts::batched_mm {
namespace {

template <class T>
struct Backward {
  const Pass<T>& pass;
  const BackwardArgs& args;
  const T* h;
  const float* dy;

  std::int64_t num_i_blocks() const { return ceil_div(pass.request.inter, kInterBlock); }

  // v [rows, r] = scale * from B.
  void project(const PackedB<T>& b, float scale, const Rows& from, float* v) const {
    const std::int64_t rank = b.lora_rank;
    pass.pool.run(pass.work.num_hits, [&](std::int64_t number, int) {
      const Hit& hit = pass.work.hits[number];
      for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
        float* to = v + begin * rank;
        multiply(from, begin, end, b.out, pass.b_operand(b, number, false), rank, to, rank, false);
        for (std::int64_t i = 0; i < (end - begin) * rank; ++i) to[i] *= scale;
      });
    });
  }

  void run_d_a() const {
    const ExpertsRequest& request = pass.request;
    constexpr std::int64_t kLd = 2 * kMaxColumns;
    const std::int64_t columns =
        round_up(pass.columns_per_task(request.inter, pass.work.num_hits, request.transposed, kLd),
                 kInterBlock);
    const std::int64_t pieces = ceil_div(request.inter, columns);
    pass.pool.run(pass.work.num_hits * pieces, [&](std::int64_t task, int worker) {
      const Hit& hit = pass.work.hits[task / pieces];
      const std::int64_t i0 = task % pieces * columns, n = std::min(columns, request.inter - i0);
      const WorkerScratch scratch = pass.worker(worker);
      const WeightPart part = down_part(request, pass.inputs.weights, hit.expert);
      for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
        multiply(pass.by_token(dy, request.hidden), begin, end, request.hidden,
                 from_column(backward_operand(part, request.weight_dtype), i0), n, scratch.block,
                 kLd, false);
        if (const std::int64_t rank = request.down_lora.lora_rank; rank > 0) {
          const auto a = pass.a_operand(request.down_lora, pass.inputs.down_lora, hit.expert,
                                        request.inter, false);
          multiply(pass.by_row(pass.work.v_2, rank), begin, end, rank, from_column(a, i0), n,
                   scratch.block, kLd, true);
        }
        for (std::int64_t r = begin; r < end; ++r) {
          const float* d_a = scratch.block + (r - begin) * kLd;
          for (std::int64_t i = 0; i < n; i += kInterBlock) {
            activation(r, i0 + i, std::min(kInterBlock, n - i), d_a + i);
          }
        }
      });
    });
  }

  // d_a [n] of a row, n <= kInterBlock.
  void activation(std::int64_t row, std::int64_t i0, std::int64_t n, const float* d_a) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t width = request.gate_up_width();
    T unused[2 * kInterBlock];  // where only the routing weight's gradient is wanted
    GateUp<T> d_h{unused, unused + kInterBlock, 1};
    T* d_h_rows = pass.work.d_h.narrow;
    if (d_h_rows != nullptr) d_h = gate_up_of_row(request, d_h_rows + row * width, i0);
    const float product = activation_ops<T>().backward(
        request.activation, gate_up_of_row<const T>(request, h + row * width, i0), d_a,
        pass.weight_of(row), d_h, nullptr, n);
    if (pass.work.d_weights != nullptr) {
      pass.work.d_weights[row * num_i_blocks() + i0 / kInterBlock] = product;
    }
  }

  // <dA', a> by block, in their order, + <dy, b2>.
  void run_d_weights() const {
    const ExpertsRequest& request = pass.request;
    pass.pool.run(pass.work.num_hits, [&](std::int64_t number, int) {
      const Hit& hit = pass.work.hits[number];
      for (std::int64_t row = hit.begin; row < hit.end; ++row) {
        float sum = 0;
        for (std::int64_t b = 0; b < num_i_blocks(); ++b) {
          sum += pass.work.d_weights[row * num_i_blocks() + b];
        }
        if (request.down_bias) sum += bias_part(hit.expert, row);
        store_gradient(request.wanted.top_k_weights, args.gradients.top_k_weights,
                       pass.work.index.slot_of[row], &sum, 1);
      }
    });
    store_skipped_slots(request, args, pass.work.index);
  }

  float bias_part(std::int64_t expert, std::int64_t row) const {
    const std::int64_t hidden = pass.request.hidden;
    const float* gradient = pass.by_token(dy, hidden).row(row);
    double sum = 0;
    for (std::int64_t i = 0; i < hidden; ++i) {
      sum += static_cast<double>(gradient[i]) *
             element(pass.inputs.weights.down_bias, pass.request.weight_dtype, expert * hidden + i);
    }
    return static_cast<float>(sum);
  }

  // Pieces of long rows of W1, by expert, and then the sums over a token's slots: columns of all
  // experts at once would be short pieces, each on a page of its own.
  void run_d_hidden() const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t hidden = request.hidden;
    const std::int64_t columns =
        pass.columns_per_task(hidden, pass.work.num_hits, request.transposed, kMaxDxColumns);
    const std::int64_t pieces = ceil_div(hidden, columns);
    pass.pool.run(pass.work.num_hits * pieces, [&](std::int64_t task, int) {
      const std::int64_t c0 = task % pieces * columns;
      d_hidden_products(pass.work.hits[task / pieces], c0, std::min(columns, hidden - c0));
    });
    const std::int64_t sums = ceil_div(hidden, kMaxColumns);
    pass.pool.run(pass.inputs.num_tokens * sums, [&](std::int64_t task, int worker) {
      const std::int64_t t = task / sums, c0 = task % sums * kMaxColumns;
      const std::int64_t n = std::min(kMaxColumns, hidden - c0);
      float* sum = pass.worker(worker).sum;
      std::fill_n(sum, n, 0.0f);
      for (std::int64_t slot = t * request.top_k; slot < (t + 1) * request.top_k; ++slot) {
        const std::int64_t row = pass.work.index.row_of[slot];
        if (row < 0) continue;
        kernels::rows::ops<float>().axpy(sum, pass.work.d_x_rows + row * hidden + c0, 1.0f, n);
      }
      store_gradient(request.wanted.hidden, args.gradients.hidden, t * hidden + c0, sum, n);
    });
  }

  // Columns [c0, c0 + n) of a hit's rows of dx.
  void d_hidden_products(const Hit& hit, std::int64_t c0, std::int64_t n) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t hidden = request.hidden, width = request.gate_up_width();
    const std::int64_t rank = request.gate_up_lora.lora_rank;
    for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
      float* to = pass.work.d_x_rows + begin * hidden + c0;
      bool add = false;
      for (const WeightPart& part : gate_up_parts(request, pass.inputs.weights, hit.expert)) {
        multiply(pass.by_row(pass.work.d_h, width, part.first), begin, end, part.rows,
                 from_column(backward_operand(part, request.weight_dtype), c0), n, to, hidden, add);
        add = true;
      }
      if (rank == 0) return;
      const auto a =
          pass.a_operand(request.gate_up_lora, pass.inputs.gate_up_lora, hit.expert, hidden, false);
      multiply(pass.by_row(pass.work.v_1, rank), begin, end, rank, from_column(a, c0), n, to,
               hidden, true);
    });
  }

  // a again, and each of a, v2 and u2 times the routing weight; x and dy by row.
  void weigh_rows() const {
    const ExpertsRequest& request = pass.request;
    const Work<T>& work = pass.work;
    const std::int64_t inter = request.inter, hidden = request.hidden;
    const std::int64_t rank = request.down_lora.lora_rank;
    pass.pool.run(work.index.num_rows, [&](std::int64_t row, int) {
      const float weight = pass.weight_of(row);
      if (work.a.narrow != nullptr) {
        activation_ops<T>().forward(
            request.activation, gate_up_of_row<const T>(request, h + row * request.gate_up_width()),
            work.a.narrow + row * inter, inter);
        work.a.widen(row * inter, inter);
      }
      weigh(work.weighted_a, work.a.wide, row, inter, weight);
      weigh(work.weighted_v_2, work.v_2, row, rank, weight);
      weigh(work.weighted_u_2, work.u_2.wide, row, rank, weight);
      if (work.x_rows != nullptr) {
        std::copy_n(pass.by_token(pass.x, hidden).row(row), hidden, work.x_rows + row * hidden);
      }
      if (work.dy_rows != nullptr) {
        std::copy_n(pass.by_token(dy, hidden).row(row), hidden, work.dy_rows + row * hidden);
      }
    });
  }

  static void weigh(float* to, const float* from, std::int64_t row, std::int64_t n, float weight) {
    if (to == nullptr) return;
    for (std::int64_t i = row * n; i < (row + 1) * n; ++i) to[i] = weight * from[i];
  }
};

// What forward saved, without the padding of the rank.
template <class T>
void load_saved(const void* saved,
                const LoraSpec& lora,
                std::int64_t num_rows,
                const Rounded<T>& to) {
  if (to.narrow == nullptr) return;
  const T* from = static_cast<const T*>(saved);
  const std::int64_t rank = lora.lora_rank;
  for (std::int64_t r = 0; r < num_rows; ++r) {
    std::copy_n(from + r * padded_lora_rank(lora), rank, to.narrow + r * rank);
  }
  to.widen(0, num_rows * rank);
}

}  // namespace

template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  const ExpertsInputs& inputs = args.inputs;
  const Needs needs(request);
  Carver carver(args.scratch.data());
  Work<T> work = Work<T>::carve_backward(carver, request, inputs.num_tokens, pool.num_threads());
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const Pass<T> pass{request, inputs, work, pool, prepare(request, inputs, work)};
  pack_b(pass);
  load_saved(saved.u_1, request.gate_up_lora, work.index.num_rows, work.u_1);
  load_saved(saved.u_2, request.down_lora, work.index.num_rows, work.u_2);
  const T* h = static_cast<const T*>(saved.h);
  if (work.h != nullptr) {
    pre_activation(pass, work.h, Rounded<T>{});
    h = work.h;
  }
  const float* dy = static_cast<const float*>(args.d_output);
  if (work.dy != nullptr) {
    widen(args.d_output, request.d_output_dtype, inputs.num_tokens * request.hidden, work.dy);
    dy = work.dy;
  }
  const Backward<T> backward{pass, args, h, dy};
  if (needs.v_2) {
    backward.project(work.b_2, request.down_lora.lora_scale, pass.by_token(dy, request.hidden),
                     work.v_2);
  }
  if (needs.d_a) backward.run_d_a();
  if (work.d_weights != nullptr) backward.run_d_weights();
  if (needs.d_h) work.d_h.widen(0, work.index.num_rows * request.gate_up_width());
  if (needs.v_1) {
    backward.project(work.b_1, request.gate_up_lora.lora_scale,
                     pass.by_row(work.d_h, request.gate_up_width()), work.v_1);
  }
  if (request.wanted.hidden.wanted()) backward.run_d_hidden();
  backward.weigh_rows();
  sum_over_rows(pass, args, dy);
}

template void run_backward<float>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<bf16>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::batched_mm
