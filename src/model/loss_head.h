// SPDX-License-Identifier: Apache-2.0
// Final norm, lm_head and cross entropy. Logits exist for a chunk of tokens at a time, and only for
// tokens with a label.
#pragma once

#include <span>

#include "model/layer_context.h"

namespace moesmith::model {

struct LossHead {
  Parameter* norm = nullptr;
  Linear lm_head;

  // Tokens whose logits are held at once: a function of the vocabulary alone.
  std::int64_t chunk_tokens() const;
};

template <class T>
struct HeadSaved {
  float* rstd = nullptr;  // [n]
  T* normed = nullptr;    // [n, hidden]

  void take(Arena& arena, const LossHead& head, std::int64_t n);
};

template <class T>
void head_norm(const LossHead& head,
               const LayerContext& context,
               const T* x,
               const HeadSaved<T>& saved);

struct HeadLoss {
  double sum = 0;
  std::int64_t num_tokens = 0;
};
// After head_norm. With d_x [n, hidden]: the gradient of grad_scale * sum by x, and gradients of
// the head's own parameters.
template <class T>
HeadLoss head_loss(const LossHead& head,
                   const LayerContext& context,
                   const T* x,
                   const HeadSaved<T>& saved,
                   std::span<const std::int32_t> labels,
                   float grad_scale,
                   T* d_x);

// After head_norm: logits of the rows [begin, end), [end - begin, vocab].
template <class T>
void head_logits(const LossHead& head,
                 const LayerContext& context,
                 const HeadSaved<T>& saved,
                 std::int64_t begin,
                 std::int64_t end,
                 float* logits);

template <class T>
void reserve_head_scratch(
    const LossHead& head, Arena& arena, std::int64_t n, bool backward, bool dropout);

}  // namespace moesmith::model
