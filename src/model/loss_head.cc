// SPDX-License-Identifier: Apache-2.0
#include "model/loss_head.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/profile.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/rms_norm/rms_norm.h"
#include "model/batch.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

namespace norm = kernels::rms_norm;

template <class T>
Matrix dense(T* data, std::int64_t cols) {
  return {data, DTypeOf<T>::value, cols};
}

// Each chunk draws its dropout from a stream of its own; the head's come past all layers'.
std::uint64_t chunk_number(const LossHead& head, std::int64_t first) {
  return static_cast<std::uint64_t>(first / head.chunk_tokens());
}

template <class T>
struct Scratch {
  std::int32_t* rows = nullptr;    // [n]: tokens with a label
  std::int32_t* labels = nullptr;  // [n]: theirs
  double* losses = nullptr;        // [chunk]
  T* hidden = nullptr;             // [chunk, hidden]
  float* logits = nullptr;         // [chunk, vocab]
  T* xa = nullptr;                 // [chunk, rank]
  // Backward only.
  T* d_logits = nullptr;      // [chunk, vocab]; `logits` itself for f32
  float* d_hidden = nullptr;  // [chunk, hidden]
  float* d_normed = nullptr;  // [n, hidden]
  float* partial = nullptr;

  void take(Arena& arena, const LossHead& head, std::int64_t n, bool backward) {
    const std::int64_t chunk = std::min(n, head.chunk_tokens());
    const std::int64_t width = head.lm_head.in, vocab = head.lm_head.out;
    rows = arena.take<std::int32_t>(n);
    labels = arena.take<std::int32_t>(n);
    losses = arena.take<double>(chunk);
    hidden = arena.take<T>(chunk * width);
    logits = arena.take<float>(chunk * vocab);
    xa = arena.take<T>(chunk * head.lm_head.rank());
    d_logits = nullptr;
    if (!backward) return;
    if constexpr (std::is_same_v<T, float>) {
      d_logits = logits;
    } else {
      d_logits = arena.take<T>(chunk * vocab);
    }
    d_hidden = arena.take<float>(chunk * width);
    d_normed = arena.take<float>(n * width);
    partial = arena.take<float>(norm::partial_floats(n, width));
  }
};

template <class T>
void head_backward_chunk(const LossHead& head,
                         const LayerContext& c,
                         const Scratch<T>& s,
                         std::int64_t first,
                         std::int64_t count) {
  const std::int64_t width = head.lm_head.in;
  linear_backward<T>(head.lm_head, c.linear(chunk_number(head, first)),
                     {count, s.hidden, s.xa, dense(s.d_logits, head.lm_head.out),
                      dense(s.d_hidden, width), false});
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(s.d_normed + s.rows[first + i] * width, s.d_hidden + i * width,
                static_cast<std::size_t>(width) * sizeof(float));
  }
}

}  // namespace

std::int64_t LossHead::chunk_tokens() const {
  constexpr std::int64_t kMaxBytes = std::int64_t{32} << 20;  // of f32 logits
  return std::clamp<std::int64_t>(kMaxBytes / (4 * lm_head.out) / 16 * 16, 32, 1024);
}

template <class T>
void HeadSaved<T>::take(Arena& arena, const LossHead& head, std::int64_t n) {
  rstd = arena.take<float>(n);
  normed = arena.take<T>(n * head.lm_head.in);
}

template <class T>
void head_norm(const LossHead& head, const LayerContext& c, const T* x, const HeadSaved<T>& saved) {
  norm::Args<T> args;
  args.num_tokens = c.num_tokens;
  args.dim = args.x_stride = args.y_stride = c.spec.hidden_size;
  args.x = x;
  args.weight = head.norm->value.template data<T>();
  args.eps = c.spec.rms_norm_eps;
  args.y = saved.normed;
  args.rstd = saved.rstd;
  const profile::Scope scope(part::kNorms);
  norm::forward(args, c.pool);
}

template <class T>
HeadLoss head_loss(const LossHead& head,
                   const LayerContext& c,
                   const T* x,
                   const HeadSaved<T>& saved,
                   std::span<const std::int32_t> labels,
                   float grad_scale,
                   T* d_x) {
  const std::int64_t n = c.num_tokens, width = head.lm_head.in, vocab = head.lm_head.out;
  const std::int64_t mark = c.arena.mark();
  const profile::Scope scope(part::kLoss);
  Scratch<T> s;
  s.take(c.arena, head, n, d_x != nullptr);
  HeadLoss loss;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t label = labels[static_cast<std::size_t>(i)];
    if (label == kIgnoreLabel) continue;
    s.rows[loss.num_tokens] = static_cast<std::int32_t>(i);
    s.labels[loss.num_tokens++] = label;
  }
  if (d_x != nullptr) zero(s.d_normed, n * width, c.pool);
  for (std::int64_t first = 0; first < loss.num_tokens; first += head.chunk_tokens()) {
    const std::int64_t count = std::min(head.chunk_tokens(), loss.num_tokens - first);
    for (std::int64_t i = 0; i < count; ++i) {
      std::memcpy(s.hidden + i * width, saved.normed + s.rows[first + i] * width,
                  static_cast<std::size_t>(width) * sizeof(T));
    }
    linear_forward(head.lm_head, c.linear(chunk_number(head, first)), count, s.hidden,
                   dense(s.logits, vocab), s.xa);
    kernels::cross_entropy::forward<T>(count, vocab, s.logits, s.labels + first, grad_scale,
                                       s.losses, s.d_logits, c.pool);
    for (std::int64_t i = 0; i < count; ++i) loss.sum += s.losses[i];
    if (d_x != nullptr) head_backward_chunk(head, c, s, first, count);
  }
  if (d_x != nullptr) {
    norm::BackwardArgs<T> args;
    args.num_tokens = n;
    args.dim = args.x_stride = args.dy_stride = args.dx_stride = width;
    args.x = x;
    args.weight = head.norm->value.template data<T>();
    args.rstd = saved.rstd;
    args.dy = s.d_normed;
    args.dx = d_x;
    args.d_weight = head.norm->trainable ? head.norm->grad.template data<float>() : nullptr;
    args.partial_scratch = s.partial;
    const profile::Scope norms(part::kNorms);
    norm::backward(args, c.pool);
  }
  c.arena.rewind(mark);
  return loss;
}

template <class T>
void head_logits(const LossHead& head,
                 const LayerContext& c,
                 const HeadSaved<T>& saved,
                 std::int64_t begin,
                 std::int64_t end,
                 float* logits) {
  const std::int64_t width = head.lm_head.in, vocab = head.lm_head.out, mark = c.arena.mark();
  for (std::int64_t first = begin; first < end; first += head.chunk_tokens()) {
    const std::int64_t count = std::min(head.chunk_tokens(), end - first);
    T* xa = c.arena.take<T>(count * head.lm_head.rank());
    linear_forward(head.lm_head, c.linear(0), count, saved.normed + first * width,
                   dense(logits + (first - begin) * vocab, vocab), xa);
    c.arena.rewind(mark);
  }
}

template <class T>
void reserve_head_scratch(
    const LossHead& head, Arena& arena, std::int64_t n, bool backward, bool dropout) {
  const std::int64_t mark = arena.mark();
  Scratch<T> scratch;
  scratch.take(arena, head, n, backward);
  reserve_linear_scratch<T>(head.lm_head, arena, std::min(n, head.chunk_tokens()), dropout);
  arena.rewind(mark);
}

#define MOESMITH_INSTANTIATE(T)                                                                    \
  template struct HeadSaved<T>;                                                                    \
  template void head_norm<T>(const LossHead&, const LayerContext&, const T*, const HeadSaved<T>&); \
  template HeadLoss head_loss<T>(const LossHead&, const LayerContext&, const T*,                   \
                                 const HeadSaved<T>&, std::span<const std::int32_t>, float, T*);   \
  template void head_logits<T>(const LossHead&, const LayerContext&, const HeadSaved<T>&,          \
                               std::int64_t, std::int64_t, float*);                                \
  template void reserve_head_scratch<T>(const LossHead&, Arena&, std::int64_t, bool, bool);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::model
