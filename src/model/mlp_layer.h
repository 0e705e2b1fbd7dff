// SPDX-License-Identifier: Apache-2.0
// y = down(silu(gate(x)) * up(x)): the dense layer, and the shared expert.
#pragma once

#include "model/layer_context.h"

namespace moesmith::model {

struct MlpLayer {
  Linear gate, up, down;
};

template <class T>
struct MlpSaved {
  T *gate = nullptr, *up = nullptr, *act = nullptr;            // [n, inter]
  T *gate_xa = nullptr, *up_xa = nullptr, *down_xa = nullptr;  // [n, rank]

  void take(Arena& arena, const MlpLayer& layer, std::int64_t n);
};

// x, y [n, hidden].
template <class T>
void mlp_forward(
    const MlpLayer& layer, const LayerContext& context, const T* x, const MlpSaved<T>& saved, T* y);

// d_x [n, hidden] is overwritten, or added to.
template <class T>
void mlp_backward(const MlpLayer& layer,
                  const LayerContext& context,
                  const T* x,
                  const MlpSaved<T>& saved,
                  T* d_y,
                  float* d_x,
                  bool accumulate);

template <class T>
void reserve_mlp_scratch(
    const MlpLayer& layer, Arena& arena, std::int64_t n, bool backward, bool dropout);

}  // namespace moesmith::model
