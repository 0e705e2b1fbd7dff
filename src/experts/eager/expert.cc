// SPDX-License-Identifier: Apache-2.0
#include "experts/eager/expert.h"

namespace moesmith::experts::eager {
namespace {

template <class Acc>
void load_part(const Matrix<Acc>& to, const WeightPart& part, DType dtype) {
  for (std::int64_t o = 0; o < part.rows; ++o) {
    for (std::int64_t i = 0; i < to.cols; ++i) {
      to.row(part.first + o)[i] =
          static_cast<Acc>(element(part.data, dtype, o * part.out_stride + i * part.in_stride));
    }
  }
}

// PEFT's layout: A is expert-major, B rank-major.
template <class Acc>
void load_lora(const LoraSpec& lora,
               const LoraFactors& factors,
               std::int64_t num_experts,
               std::int64_t expert,
               const Matrix<Acc>& a,
               const Matrix<Acc>& b) {
  const std::int64_t rank = lora.lora_rank;
  for (std::int64_t j = 0; j < rank; ++j) {
    for (std::int64_t i = 0; i < a.cols; ++i) {
      const std::int64_t at = (expert * rank + j) * a.cols + i;
      a.row(j)[i] = static_cast<Acc>(element(factors.a, lora.dtype, at));
    }
    for (std::int64_t o = 0; o < b.rows; ++o) {
      const std::int64_t at = o * rank * num_experts + j * num_experts + expert;
      b.row(o)[j] = static_cast<Acc>(element(factors.b, lora.dtype, at));
    }
  }
}

}  // namespace

template <class Acc>
Expert<Acc> Expert<Acc>::carve(Carver& carver, const ExpertsRequest& request, bool backward) {
  const std::int64_t hidden = request.hidden, inter = request.inter;
  const std::int64_t width = request.gate_up_width();
  const std::int64_t r_1 = request.gate_up_lora.lora_rank, r_2 = request.down_lora.lora_rank;
  const auto matrix = [&](std::int64_t rows, std::int64_t cols, bool needed = true) {
    return Matrix<Acc>::carve(carver, needed ? rows : 0, cols);
  };
  Expert e;
  e.w_1 = matrix(width, hidden);
  e.w_2 = matrix(hidden, inter);
  e.a_1 = matrix(r_1, hidden);
  e.b_1 = matrix(width, r_1);
  e.a_2 = matrix(r_2, inter);
  e.b_2 = matrix(hidden, r_2);
  e.x = matrix(kRows, hidden);
  e.h = matrix(kRows, width);
  e.a = matrix(kRows, inter);
  e.u_1 = matrix(kRows, r_1);
  e.u_2 = matrix(kRows, r_2);
  e.y = matrix(kRows, hidden, !backward);
  if (!backward) return e;
  const WantedGradients& want = request.wanted;
  e.dy = matrix(kRows, hidden);
  e.d_a = matrix(kRows, inter);
  e.d_h = matrix(kRows, width);
  e.v_1 = matrix(kRows, r_1);
  e.v_2 = matrix(kRows, r_2);
  e.d_x = matrix(kRows, hidden, want.hidden.wanted());
  e.d_w_1 = matrix(width, hidden, want.gate_up.wanted());
  e.d_w_2 = matrix(hidden, inter, want.down.wanted());
  e.d_bias_1 = matrix(1, width, want.gate_up_bias.wanted());
  e.d_bias_2 = matrix(1, hidden, want.down_bias.wanted());
  e.d_a_1 = matrix(r_1, hidden, want.gate_up_a.wanted());
  e.d_b_1 = matrix(width, r_1, want.gate_up_b.wanted());
  e.d_a_2 = matrix(r_2, inter, want.down_a.wanted());
  e.d_b_2 = matrix(hidden, r_2, want.down_b.wanted());
  return e;
}

template <class Acc>
void Expert<Acc>::load(const ExpertsRequest& request,
                       const ExpertsInputs& inputs,
                       std::int64_t expert) {
  for (const WeightPart& part : gate_up_parts(request, inputs.weights, expert)) {
    load_part(w_1, part, request.weight_dtype);
  }
  load_part(w_2, down_part(request, inputs.weights, expert), request.weight_dtype);
  load_lora(request.gate_up_lora, inputs.gate_up_lora, request.num_experts, expert, a_1, b_1);
  load_lora(request.down_lora, inputs.down_lora, request.num_experts, expert, a_2, b_2);
}

template <class T, class Acc>
void load_x(const ExpertsRequest& request,
            const ExpertsInputs& inputs,
            const RoutingIndex& index,
            std::int64_t begin,
            std::int64_t n,
            const Expert<Acc>& tile) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t token = index.slot_of[begin + i] / request.top_k;
    const T* x = static_cast<const T*>(inputs.hidden) + token * request.hidden;
    for (std::int64_t j = 0; j < request.hidden; ++j) tile.x.row(i)[j] = widen<Acc>(x[j]);
  }
}

template <class T, class Acc>
void up_projection(const ExpertsRequest& request,
                   const ExpertsInputs& inputs,
                   const RoutingIndex& index,
                   std::int64_t expert,
                   std::int64_t begin,
                   std::int64_t n,
                   const Expert<Acc>& tile) {
  load_x<T>(request, inputs, index, begin, n, tile);
  const Matrix<Acc> x = tile.x.head(n), h = tile.h.head(n), u = tile.u_1.head(n);
  u.clear();
  add_nt(u, x, tile.a_1);
  const Acc scale = static_cast<Acc>(request.gate_up_lora.lora_scale);
  for (std::int64_t i = 0; i < n * u.cols; ++i) u.data[i] = rounded<T>(scale * u.data[i]);
  h.clear();
  add_nt(h, x, tile.w_1);
  add_nt(h, u, tile.b_1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < h.cols; ++j) {
      Acc& at = h.row(i)[j];
      if (request.gate_up_bias) {
        at += static_cast<Acc>(
            element(inputs.weights.gate_up_bias, request.weight_dtype, expert * h.cols + j));
      }
      at = rounded<T>(at);
    }
  }
}

template <class Acc>
void activate(const ExpertsRequest& request, std::int64_t n, const Expert<Acc>& tile) {
  for (std::int64_t i = 0; i < n; ++i) {
    const GateUp<Acc> h = gate_up_of_row(request, tile.h.row(i));
    for (std::int64_t j = 0; j < request.inter; ++j) {
      const Acc up = request.activation.gated ? h.up[j * h.stride] : Acc(0);
      tile.a.row(i)[j] = activation_point(request.activation, h.gate[j * h.stride], up).value;
    }
  }
}

template struct Expert<float>;
template struct Expert<double>;
template void activate(const ExpertsRequest&, std::int64_t, const Expert<float>&);
template void activate(const ExpertsRequest&, std::int64_t, const Expert<double>&);

#define MOESMITH_INSTANTIATE(T, Acc)                                                             \
  template void load_x<T, Acc>(const ExpertsRequest&, const ExpertsInputs&, const RoutingIndex&, \
                               std::int64_t, std::int64_t, const Expert<Acc>&);                  \
  template void up_projection<T, Acc>(const ExpertsRequest&, const ExpertsInputs&,               \
                                      const RoutingIndex&, std::int64_t, std::int64_t,           \
                                      std::int64_t, const Expert<Acc>&);
MOESMITH_INSTANTIATE(float, float)
MOESMITH_INSTANTIATE(float, double)
MOESMITH_INSTANTIATE(bf16, float)
MOESMITH_INSTANTIATE(bf16, double)
MOESMITH_INSTANTIATE(double, double)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::experts::eager
