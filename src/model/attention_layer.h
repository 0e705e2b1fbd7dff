// SPDX-License-Identifier: Apache-2.0
// x_mid = x + o_proj(attention(rope(norm(q)), rope(norm(k)), v)) of the normalised x, and back.
#pragma once

#include "model/layer_context.h"

namespace moesmith::model {

struct AttentionLayer {
  Parameter* norm = nullptr;
  Linear q, k, v, o;
  Parameter* q_norm = nullptr;  // nullptr: none
  Parameter* k_norm = nullptr;
  std::int64_t window = 0;
};

// Kept between forward and backward.
template <class T>
struct AttentionSaved {
  float* rstd = nullptr;    // [n]
  T* normed = nullptr;      // [n, hidden]
  T* q_raw = nullptr;       // [n, q_width], before its norm; nullptr without norms
  T* k_raw = nullptr;       // [n, kv_width]
  float* q_rstd = nullptr;  // [n, heads] or [n]
  float* k_rstd = nullptr;
  T* q = nullptr;                                                        // [n, q_width], rotated
  T* k = nullptr;                                                        // [n, kv_width], rotated
  T* v = nullptr;                                                        // [n, kv_width]
  T* out = nullptr;                                                      // [n, q_width]
  float* log_sum = nullptr;                                              // [n, heads]
  T *q_xa = nullptr, *k_xa = nullptr, *v_xa = nullptr, *o_xa = nullptr;  // [n, rank]

  void take(Arena& arena, const AttentionLayer& layer, const DecoderSpec& spec, std::int64_t n);
};

// x and x_mid [n, hidden].
template <class T>
void attention_forward(const AttentionLayer& layer,
                       const LayerContext& context,
                       const T* x,
                       const AttentionSaved<T>& saved,
                       T* x_mid);

// d_x [n, hidden]: in, the gradient of x_mid; out, that of x, if need_dx (else left as it came).
template <class T>
void attention_backward(const AttentionLayer& layer,
                        const LayerContext& context,
                        const T* x,
                        const AttentionSaved<T>& saved,
                        T* d_x,
                        bool need_dx);

// Takes and gives back what both passes use as scratch.
template <class T>
void reserve_attention_scratch(const AttentionLayer& layer,
                               const DecoderSpec& spec,
                               Arena& arena,
                               std::int64_t n,
                               int num_threads,
                               bool backward,
                               bool dropout);

}  // namespace moesmith::model
