// SPDX-License-Identifier: Apache-2.0
// Gradients that are sums over an expert's rows: dW1 = dh^T x, dW2 = dy^T (w a), dA1 = v1^T x,
// dA2 = (w v2)^T a, dB1 = dh^T u1, dB2 = dy^T (w u2), db1 = sum dh, db2 = sum w dy.
#include "experts/batched_mm/passes.h"
#include "experts/gradients.h"

namespace moesmith::experts::batched_mm {
namespace {

// Values by row of the routing index, dense: [rows, width].
struct Side {
  const float* data;
  std::int64_t width;
};

template <class T>
struct RowSums {
  const Pass<T>& pass;
  const BackwardArgs& args;

  // scratch.grad [num_p, n] = columns [p, p + num_p) of left^T times columns [q, q + n) of right.
  void products(const Side& left,
                const Side& right,
                std::int64_t begin,
                std::int64_t end,
                std::int64_t p,
                std::int64_t num_p,
                std::int64_t q,
                std::int64_t n,
                const WorkerScratch& scratch) const {
    const std::int64_t rows = end - begin;
    const float* pointers[kRowGroup];
    for (std::int64_t i = 0; i < num_p; ++i) {
      float* column = scratch.left + i * rows;
      for (std::int64_t r = 0; r < rows; ++r) {
        column[r] = left.data[(begin + r) * left.width + p + i];
      }
      pointers[i] = column;
    }
    const auto b =
        kernels::gemm::row_major(right.data + begin * right.width + q, DType::kF32, right.width);
    kernels::gemv::run({pointers, nullptr, num_p, b, n, rows, scratch.grad, kGradColumns, false});
  }

  // [E, left.width, right.width] = left^T right of each expert.
  void run(const GradSpec& spec, void* target, const Side& left, const Side& right) const {
    if (!spec.wanted()) return;
    const std::int64_t blocks = ceil_div(left.width, kRowGroup);
    const auto& index = pass.work.index;
    const bool streams =
        outgrows_caches(index.num_experts * left.width * right.width * dtype_size(spec.dtype));
    const auto store = streams ? stream_gradient : store_row;
    pass.pool.run(index.num_experts * blocks, [&](std::int64_t task, int worker) {
      const std::int64_t expert = task / blocks, p = task % blocks * kRowGroup;
      const std::int64_t num_p = std::min(kRowGroup, left.width - p);
      const std::int64_t begin = index.offsets[expert], end = index.offsets[expert + 1];
      if (begin == end && spec.mode == GradMode::kAccumulate) return;
      const WorkerScratch scratch = pass.worker(worker);
      for (std::int64_t q = 0; q < right.width; q += kGradColumns) {
        const std::int64_t n = std::min(kGradColumns, right.width - q);
        products(left, right, begin, end, p, num_p, q, n, scratch);
        for (std::int64_t i = 0; i < num_p; ++i) {
          store(spec, target, (expert * left.width + p + i) * right.width + q,
                scratch.grad + i * kGradColumns, n);
        }
      }
      if (streams) kernels::rows::fence();
    });
  }

  static void store_row(const GradSpec& spec,
                        void* target,
                        std::int64_t offset,
                        const float* values,
                        std::int64_t n) {
    store_gradient(spec, target, offset, values, n);
  }

  // [out, r E], element (o, j E + e).
  void run_b(const GradSpec& spec, void* target, const Side& left, const Side& right) const {
    if (!spec.wanted()) return;
    const std::int64_t num_experts = pass.request.num_experts, width = right.width * num_experts;
    const bool streams = outgrows_caches(left.width * width * dtype_size(spec.dtype));
    const auto store = streams ? stream_gradient : store_row;
    pass.pool.run(ceil_div(left.width, kGradRows), [&](std::int64_t task, int worker) {
      const std::int64_t o = task * kGradRows, num_o = std::min(kGradRows, left.width - o);
      const WorkerScratch scratch = pass.worker(worker);
      std::fill_n(scratch.row, num_o * width, 0.0f);
      for (std::int64_t number = 0; number < pass.work.num_hits; ++number) {
        const Hit& hit = pass.work.hits[number];
        for (std::int64_t j0 = 0; j0 < right.width; j0 += kGradColumns) {
          const std::int64_t n = std::min(kGradColumns, right.width - j0);
          products(left, right, hit.begin, hit.end, o, num_o, j0, n, scratch);
          for (std::int64_t i = 0; i < num_o; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
              scratch.row[i * width + (j0 + j) * num_experts + hit.expert] =
                  scratch.grad[i * kGradColumns + j];
            }
          }
        }
      }
      store(spec, target, o * width, scratch.row, num_o * width);
      if (streams) kernels::rows::fence();
    });
  }

  // [E, width]: the sum of a row's values times its weight.
  template <class WeightOf>
  void run_bias(const GradSpec& spec,
                void* target,
                const Rows& rows,
                std::int64_t width,
                const WeightOf& weight_of) const {
    if (!spec.wanted()) return;
    const auto& index = pass.work.index;
    pass.pool.run(index.num_experts, [&](std::int64_t expert, int worker) {
      float* sum = pass.worker(worker).sum;
      for (std::int64_t q = 0; q < width; q += kMaxColumns) {
        const std::int64_t n = std::min(kMaxColumns, width - q);
        std::fill_n(sum, n, 0.0f);
        for (std::int64_t r = index.offsets[expert]; r < index.offsets[expert + 1]; ++r) {
          kernels::rows::ops<float>().axpy(sum, rows.row(r) + q, weight_of(r), n);
        }
        store_gradient(spec, target, expert * width + q, sum, n);
      }
    });
  }
};

}  // namespace

template <class T>
void sum_over_rows(const Pass<T>& pass, const BackwardArgs& args, const float* dy) {
  const ExpertsRequest& request = pass.request;
  const WantedGradients& want = request.wanted;
  const ExpertsGradients& to = args.gradients;
  const Work<T>& work = pass.work;
  const std::int64_t hidden = request.hidden, inter = request.inter;
  const std::int64_t rank_1 = request.gate_up_lora.lora_rank, rank_2 = request.down_lora.lora_rank;
  const Side h{work.d_h.wide, request.gate_up_width()}, x{work.x_rows, hidden},
      y{work.dy_rows, hidden};
  const Side a{work.weighted_a, inter};
  const RowSums<T> sums{pass, args};
  if (request.transposed) {
    sums.run(want.gate_up, to.gate_up, x, h);
    sums.run(want.down, to.down, a, y);
  } else {
    sums.run(want.gate_up, to.gate_up, h, x);
    sums.run(want.down, to.down, y, a);
  }
  sums.run(want.gate_up_a, to.gate_up_a, {work.v_1, rank_1}, x);
  sums.run(want.down_a, to.down_a, {work.weighted_v_2, rank_2}, {work.a.wide, inter});
  sums.run_b(want.gate_up_b, to.gate_up_b, h, {work.u_1.wide, rank_1});
  sums.run_b(want.down_b, to.down_b, y, {work.weighted_u_2, rank_2});
  sums.run_bias(want.gate_up_bias, to.gate_up_bias, pass.by_row(h.data, h.width), h.width,
                [](std::int64_t) { return 1.0f; });
  sums.run_bias(want.down_bias, to.down_bias, pass.by_token(dy, hidden), hidden,
                [&](std::int64_t r) { return pass.weight_of(r); });
}

template void sum_over_rows(const Pass<float>&, const BackwardArgs&, const float*);
template void sum_over_rows(const Pass<bf16>&, const BackwardArgs&, const float*);

}  // namespace moesmith::experts::batched_mm
