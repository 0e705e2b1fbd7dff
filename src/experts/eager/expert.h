// SPDX-License-Identifier: Apache-2.0
// One expert of the reference: its matrices widened, and the formulas of docs/experts.md on at most
// kRows of its rows at a time.
#pragma once

#include <cstdint>
#include <type_traits>

#include "experts/activation/activation.h"
#include "experts/eager/matrix.h"
#include "experts/needs.h"
#include "experts/routing.h"
#include "experts/weights.h"
#include "moesmith/experts.h"

namespace moesmith::experts::eager {

inline constexpr std::int64_t kRows = 64;

// What storing as T and reading back makes of a value.
template <class T, class Acc>
Acc rounded(Acc value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return static_cast<Acc>(static_cast<float>(bf16(static_cast<float>(value))));
  } else {
    return static_cast<Acc>(static_cast<T>(value));
  }
}
template <class T, class Acc>
void store(T* p, Acc value) {
  if constexpr (std::is_same_v<T, bf16>) {
    *p = bf16(static_cast<float>(value));
  } else {
    *p = static_cast<T>(value);
  }
}
template <class Acc, class T>
Acc widen(T value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return static_cast<Acc>(static_cast<float>(value));
  } else {
    return static_cast<Acc>(value);
  }
}

// Matrices of one expert, and the tiles of one worker, in a worker's piece of scratch.
template <class Acc>
struct Expert {
  Matrix<Acc> w_1, w_2;            // [2I,H], [H,I]
  Matrix<Acc> a_1, b_1, a_2, b_2;  // [r1,H], [2I,r1], [r2,I], [H,r2]
  Matrix<Acc> x, h, a, u_1, u_2, y;
  Matrix<Acc> dy, d_a, d_h, v_1, v_2, d_x;
  Matrix<Acc> d_w_1, d_w_2, d_bias_1, d_bias_2, d_a_1, d_b_1, d_a_2, d_b_2;

  static Expert carve(Carver& carver, const ExpertsRequest& request, bool backward);
  void load(const ExpertsRequest& request, const ExpertsInputs& inputs, std::int64_t expert);
};

// x of rows [begin, begin + n), and h = x W1^T + bias + scale (x A1^T) B1^T rounded to T, with
// u_1 = scale * x A1^T rounded to T.
template <class T, class Acc>
void up_projection(const ExpertsRequest& request,
                   const ExpertsInputs& inputs,
                   const RoutingIndex& index,
                   std::int64_t expert,
                   std::int64_t begin,
                   std::int64_t n,
                   const Expert<Acc>& tile);
template <class T, class Acc>
void load_x(const ExpertsRequest& request,
            const ExpertsInputs& inputs,
            const RoutingIndex& index,
            std::int64_t begin,
            std::int64_t n,
            const Expert<Acc>& tile);
// a = act(h)
template <class Acc>
void activate(const ExpertsRequest& request, std::int64_t n, const Expert<Acc>& tile);

}  // namespace moesmith::experts::eager
