// SPDX-License-Identifier: Apache-2.0
// One decoder layer: attention, then experts or a dense MLP, each behind a norm and a residual.
#pragma once

#include <optional>

#include "model/attention_layer.h"
#include "model/mlp_layer.h"
#include "model/moe_layer.h"

namespace moesmith::model {

struct DecoderLayer {
  AttentionLayer attention;
  Parameter* mlp_norm = nullptr;
  std::optional<MlpLayer> dense;
  std::optional<MoeLayer> moe;  // exactly one of the two
  bool trainable = false;       // any of its parameters, or of its adapters
};

template <class T>
struct LayerSaved {
  AttentionSaved<T> attention;
  T* x_mid = nullptr;     // [n, hidden]
  float* rstd = nullptr;  // [n]
  T* normed = nullptr;    // [n, hidden]
  MlpSaved<T> dense;
  MoeSaved<T> moe;

  void take(Arena& arena,
            const DecoderLayer& layer,
            const DecoderSpec& spec,
            std::int64_t n,
            int num_threads,
            bool training);
};

// y [n, hidden] from x. `balance` is added to where given (not when a forward is run again).
template <class T>
void layer_forward(const DecoderLayer& layer,
                   const LayerContext& context,
                   const T* x,
                   const LayerSaved<T>& saved,
                   T* y,
                   BalanceStatistics* balance);

// d_x: in, the gradient of y; out, that of x if need_dx. d_prob: see MoeLayer.
template <class T>
void layer_backward(const DecoderLayer& layer,
                    const LayerContext& context,
                    const T* x,
                    const LayerSaved<T>& saved,
                    T* d_x,
                    const float* d_prob,
                    bool need_dx);

template <class T>
void reserve_layer_scratch(const DecoderLayer& layer,
                           const DecoderSpec& spec,
                           Arena& arena,
                           std::int64_t n,
                           int num_threads,
                           bool backward,
                           bool dropout);

}  // namespace moesmith::model
