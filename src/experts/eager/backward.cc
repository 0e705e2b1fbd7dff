// SPDX-License-Identifier: Apache-2.0
// dA' = dy W2 + V2 A2, d_w = <dA', a> + <dy, b2>, dh = act'(w dA'), dx = dh W1 + V1 A1, and the
// gradients of weights, biases and factors; V2 = s2 dy B2, V1 = s1 dh B1. Nothing that was not
// asked for.
#include "experts/eager/eager.h"
#include "experts/gradients.h"

namespace moesmith::experts::eager {
namespace {

template <class T, class Acc>
void load_saved(const void* saved,
                std::int64_t padded_cols,
                std::int64_t begin,
                const Matrix<Acc>& to) {
  for (std::int64_t i = 0; i < to.rows; ++i) {
    const T* row = static_cast<const T*>(saved) + (begin + i) * padded_cols;
    for (std::int64_t j = 0; j < to.cols; ++j) to.row(i)[j] = widen<Acc>(row[j]);
  }
}

template <class Acc>
void scale_all(const Matrix<Acc>& m, double scale) {
  for (std::int64_t i = 0; i < m.rows * m.cols; ++i) m.data[i] *= static_cast<Acc>(scale);
}

template <class T, class Acc>
struct Backward {
  const ExpertsRequest& request;
  const BackwardArgs& args;
  const Workspace<Acc>& work;
  const SavedState saved;
  const Needs needs;

  Acc weight(std::int64_t row) const {
    return static_cast<Acc>(
        route_weight(args.inputs, request.route_weights_dtype, work.index.slot_of[row]));
  }

  // x, h, a and u of rows [begin, begin + n), whichever are needed.
  void load(const Expert<Acc>& tile,
            std::int64_t expert,
            std::int64_t begin,
            std::int64_t n) const {
    if (saved.h != nullptr) {
      load_x<T>(request, args.inputs, work.index, begin, n, tile);
      load_saved<T>(saved.h, request.gate_up_width(), begin, tile.h.head(n));
    } else if (needs.h) {
      up_projection<T>(request, args.inputs, work.index, expert, begin, n, tile);
    }
    if (saved.u_1 != nullptr) {
      load_saved<T>(saved.u_1, padded_lora_rank(request.gate_up_lora), begin, tile.u_1.head(n));
    }
    if (saved.u_2 != nullptr) {
      load_saved<T>(saved.u_2, padded_lora_rank(request.down_lora), begin, tile.u_2.head(n));
    }
    if (needs.h) activate(request, n, tile);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t token = work.index.slot_of[begin + i] / request.top_k;
      for (std::int64_t j = 0; j < request.hidden; ++j) {
        tile.dy.row(i)[j] = static_cast<Acc>(
            element(args.d_output, request.d_output_dtype, token * request.hidden + j));
      }
    }
  }

  void route_weight_gradient(const Expert<Acc>& tile,
                             std::int64_t expert,
                             std::int64_t row,
                             std::int64_t i) const {
    Acc sum = 0;
    for (std::int64_t j = 0; j < request.inter; ++j) sum += tile.d_a.row(i)[j] * tile.a.row(i)[j];
    if (request.down_bias) {
      for (std::int64_t j = 0; j < request.hidden; ++j) {
        sum += tile.dy.row(i)[j] *
               static_cast<Acc>(element(args.inputs.weights.down_bias, request.weight_dtype,
                                        expert * request.hidden + j));
      }
    }
    store_gradient(request.wanted.top_k_weights, args.gradients.top_k_weights,
                   work.index.slot_of[row], &sum, 1);
  }

  void activation_gradient(const Expert<Acc>& tile, std::int64_t i, Acc route) const {
    const GateUp<Acc> h = gate_up_of_row(request, tile.h.row(i));
    const GateUp<Acc> d_h = gate_up_of_row(request, tile.d_h.row(i));
    const bool gated = request.activation.gated;
    for (std::int64_t j = 0; j < request.inter; ++j) {
      const std::int64_t at = j * h.stride;
      const ActivationPoint<Acc> point =
          activation_point(request.activation, h.gate[at], gated ? h.up[at] : Acc(0));
      d_h.gate[at] = route * tile.d_a.row(i)[j] * point.d_gate;
      if (gated) d_h.up[at] = route * tile.d_a.row(i)[j] * point.d_up;
    }
  }

  // dy leaves this function with the routing weight in it.
  void down_projection(const Expert<Acc>& tile,
                       std::int64_t expert,
                       std::int64_t begin,
                       std::int64_t n) const {
    const Matrix<Acc> dy = tile.dy.head(n), d_a = tile.d_a.head(n), v = tile.v_2.head(n);
    if (needs.v_2) {
      v.clear();
      add_nn(v, dy, tile.b_2);
      scale_all(v, request.down_lora.lora_scale);
    }
    if (needs.d_a) {
      d_a.clear();
      add_nn(d_a, dy, tile.w_2);
      if (needs.v_2) add_nn(d_a, v, tile.a_2);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      if (request.wanted.top_k_weights.wanted()) route_weight_gradient(tile, expert, begin + i, i);
      const Acc route = weight(begin + i);
      if (needs.d_h) activation_gradient(tile, i, route);
      for (std::int64_t j = 0; j < dy.cols; ++j) dy.row(i)[j] *= route;
      for (std::int64_t j = 0; j < v.cols; ++j) v.row(i)[j] *= route;
    }
    const WantedGradients& want = request.wanted;
    if (want.down.wanted()) add_tn(tile.d_w_2, dy, tile.a.head(n));
    if (want.down_a.wanted()) add_tn(tile.d_a_2, v, tile.a.head(n));
    if (want.down_b.wanted()) add_tn(tile.d_b_2, dy, tile.u_2.head(n));
    if (want.down_bias.wanted()) add_rows(tile.d_bias_2, dy);
  }

  void gate_up_projection(const Expert<Acc>& tile, std::int64_t begin, std::int64_t n) const {
    const Matrix<Acc> d_h = tile.d_h.head(n), v = tile.v_1.head(n), x = tile.x.head(n);
    if (needs.v_1) {
      v.clear();
      add_nn(v, d_h, tile.b_1);
      scale_all(v, request.gate_up_lora.lora_scale);
    }
    const WantedGradients& want = request.wanted;
    if (want.hidden.wanted()) {
      const Matrix<Acc> d_x = tile.d_x.head(n);
      d_x.clear();
      add_nn(d_x, d_h, tile.w_1);
      if (needs.v_1) add_nn(d_x, v, tile.a_1);
      T* rows = static_cast<T*>(work.rows) + begin * request.hidden;
      for (std::int64_t i = 0; i < n * request.hidden; ++i) store(rows + i, d_x.data[i]);
    }
    if (want.gate_up.wanted()) add_tn(tile.d_w_1, d_h, x);
    if (want.gate_up_a.wanted()) add_tn(tile.d_a_1, v, x);
    if (want.gate_up_b.wanted()) add_tn(tile.d_b_1, d_h, tile.u_1.head(n));
    if (want.gate_up_bias.wanted()) add_rows(tile.d_bias_1, d_h);
  }

  static void add_rows(const Matrix<Acc>& sum, const Matrix<Acc>& rows) {
    for (std::int64_t i = 0; i < rows.rows; ++i) {
      for (std::int64_t j = 0; j < rows.cols; ++j) sum.data[j] += rows.row(i)[j];
    }
  }

  // [out, in] sums into a tensor [E, out, in], or [E, in, out].
  void put_weights(const GradSpec& spec, void* target, std::int64_t e, const Matrix<Acc>& d) const {
    if (!spec.wanted()) return;
    const std::int64_t base = e * d.rows * d.cols;
    for (std::int64_t o = 0; o < d.rows; ++o) {
      if (request.transposed) {
        store_gradient(spec, target, base + o, d.row(o), d.cols, d.rows);
      } else {
        store_gradient(spec, target, base + o * d.cols, d.row(o), d.cols);
      }
    }
  }

  void put_all(const Expert<Acc>& tile, std::int64_t e) const {
    const WantedGradients& want = request.wanted;
    const ExpertsGradients& to = args.gradients;
    put_weights(want.gate_up, to.gate_up, e, tile.d_w_1);
    put_weights(want.down, to.down, e, tile.d_w_2);
    const auto put_bias = [&](const GradSpec& spec, void* target, const Matrix<Acc>& d) {
      if (spec.wanted()) store_gradient(spec, target, e * d.cols, d.data, d.cols);
    };
    put_bias(want.gate_up_bias, to.gate_up_bias, tile.d_bias_1);
    put_bias(want.down_bias, to.down_bias, tile.d_bias_2);
    const auto put_a = [&](const GradSpec& spec, void* target, const Matrix<Acc>& d) {
      if (spec.wanted()) store_gradient(spec, target, e * d.rows * d.cols, d.data, d.rows * d.cols);
    };
    put_a(want.gate_up_a, to.gate_up_a, tile.d_a_1);
    put_a(want.down_a, to.down_a, tile.d_a_2);
    const auto put_b = [&](const GradSpec& spec, void* target, const Matrix<Acc>& d) {
      if (!spec.wanted()) return;
      for (std::int64_t o = 0; o < d.rows; ++o) {
        store_gradient(spec, target, o * d.cols * request.num_experts + e, d.row(o), d.cols,
                       request.num_experts);
      }
    };
    put_b(want.gate_up_b, to.gate_up_b, tile.d_b_1);
    put_b(want.down_b, to.down_b, tile.d_b_2);
  }

  void run_expert(Expert<Acc> tile, std::int64_t expert) const {
    for (const Matrix<Acc>* d : {&tile.d_w_1, &tile.d_w_2, &tile.d_bias_1, &tile.d_bias_2,
                                 &tile.d_a_1, &tile.d_b_1, &tile.d_a_2, &tile.d_b_2}) {
      d->clear();
    }
    if (work.index.rows(expert) > 0) tile.load(request, args.inputs, expert);
    const std::int64_t end = work.index.offsets[expert + 1];
    for (std::int64_t begin = work.index.offsets[expert]; begin < end; begin += kRows) {
      const std::int64_t n = std::min(kRows, end - begin);
      load(tile, expert, begin, n);
      down_projection(tile, expert, begin, n);
      if (needs.d_h) gate_up_projection(tile, begin, n);
    }
    put_all(tile, expert);
  }
};

}  // namespace

template <class T, class Acc>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  const std::int64_t num_tokens = args.inputs.num_tokens;
  Carver carver(args.scratch.data());
  Workspace<Acc> work =
      Workspace<Acc>::carve(carver, request, num_tokens, pool.num_threads(), true);
  build_routing(args.inputs, request.index_dtype, work.index);
  const Backward<T, Acc> pass{
      request, args, work,
      SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens)),
      Needs(request)};

  pool.run(request.num_experts, [&](std::int64_t expert, int worker) {
    pass.run_expert(work.worker(request, worker, true), expert);
  });
  store_skipped_slots(request, args, work.index);
  if (!request.wanted.hidden.wanted()) return;
  combine_rows<T, Acc>(request, args.inputs, work.index, static_cast<const T*>(work.rows), false,
                       pool, [&](std::int64_t token, const Acc* sums) {
                         store_gradient(request.wanted.hidden, args.gradients.hidden,
                                        token * request.hidden, sums, request.hidden);
                       });
}

template void run_backward<float, float>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<float, double>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<bf16, float>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<bf16, double>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<double, double>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::eager
