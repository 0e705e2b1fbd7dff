// SPDX-License-Identifier: Apache-2.0
#include "model/attention_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/profile.h"
#include "kernels/rms_norm/rms_norm.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

namespace attn = kernels::attention;
namespace norm = kernels::rms_norm;

template <class T>
Matrix dense(T* data, std::int64_t cols) {
  return {data, DTypeOf<T>::value, cols};
}

std::int64_t norm_heads(const DecoderSpec& spec, std::int64_t heads) {
  return spec.qk_norm == QkNorm::kPerHead ? heads : 1;
}

template <class T>
struct Scratch {
  void* attention = nullptr;
  // Backward only.
  T* d_out = nullptr;  // [n, q_width]
  float *d_q = nullptr, *d_k = nullptr, *d_v = nullptr;
  T *d_q_raw = nullptr, *d_k_raw = nullptr, *d_v_raw = nullptr;
  T* clipped = nullptr;       // [n, q_width]: the norm's output anew, only with clip_qkv
  float* d_normed = nullptr;  // [n, hidden]
  float* partial = nullptr;   // of norm weights' gradients

  void take(Arena& arena, const DecoderSpec& spec, std::int64_t n, int threads, bool backward) {
    const attn::ScratchRequest request{n, spec.num_heads, spec.num_kv_heads, spec.head_dim,
                                       backward};
    attention = arena.take_bytes(attn::scratch_bytes<T>(request, threads));
    if (!backward) return;
    const std::int64_t q = n * spec.q_width(), kv = n * spec.kv_width();
    d_out = arena.take<T>(q);
    d_q = arena.take<float>(q);
    d_k = arena.take<float>(kv);
    d_v = arena.take<float>(kv);
    d_q_raw = arena.take<T>(q);
    d_k_raw = arena.take<T>(kv);
    d_v_raw = arena.take<T>(kv);
    clipped = spec.clip_qkv > 0 ? arena.take<T>(q) : nullptr;
    d_normed = arena.take<float>(n * spec.hidden_size);
    const std::int64_t widest = std::max({spec.hidden_size, spec.q_width(), spec.kv_width()});
    partial = arena.take<float>(norm::partial_floats(n, widest));
  }
};

template <class T>
void cast(T* y, const float* x, std::int64_t count, ThreadPool& pool) {
  const profile::Scope scope(part::kElementwise);
  from_f32(y, x, count, pool);
}

// Rotates `heads` heads of each token in place; sign -1 rotates back.
template <class T>
void rotate(const LayerContext& c, std::int64_t heads, T* x, float sign) {
  const profile::Scope scope(part::kRope);
  const std::int64_t width = heads * c.spec.head_dim;
  kernels::rope::apply(c.rope, c.positions, heads, x, width, x, width, sign, c.pool);
}

template <class T>
void norm_heads_forward(const LayerContext& c,
                        const Parameter& weight,
                        std::int64_t heads,
                        const T* x,
                        T* y,
                        float* rstd) {
  norm::Args<T> args;
  args.num_tokens = c.num_tokens;
  args.heads = norm_heads(c.spec, heads);
  args.dim = heads * c.spec.head_dim / args.heads;
  args.x_stride = args.y_stride = heads * c.spec.head_dim;
  args.x = x;
  args.weight = weight.value.data<T>();
  args.eps = c.spec.rms_norm_eps;
  args.y = y;
  args.rstd = rstd;
  const profile::Scope scope(part::kNorms);
  norm::forward(args, c.pool);
}

template <class T>
void clip(T* x, std::int64_t count, float limit, ThreadPool& pool) {
  pool.for_chunks(count, kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      x[i] = T(std::clamp(static_cast<float>(x[i]), -limit, limit));
    }
  });
}

// Where clipping changed the value, nothing flows back.
template <class T>
void clip_backward(const T* before, float* d, std::int64_t count, float limit, ThreadPool& pool) {
  pool.for_chunks(count, kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (std::abs(static_cast<float>(before[i])) > limit) d[i] = 0;
    }
  });
}

template <class T>
attn::Args<T> attention_args(const AttentionLayer& layer,
                             const LayerContext& c,
                             const AttentionSaved<T>& saved,
                             void* scratch) {
  attn::Args<T> args;
  args.problem = {c.spec.num_heads, c.spec.num_kv_heads,
                  c.spec.head_dim,  1.0f / std::sqrt(static_cast<float>(c.spec.head_dim)),
                  layer.window,     c.segments};
  args.q = saved.q;
  args.k = saved.k;
  args.v = saved.v;
  args.q_stride = c.spec.q_width();
  args.k_stride = args.v_stride = c.spec.kv_width();
  args.out = saved.out;
  args.log_sum = saved.log_sum;
  args.scratch = scratch;
  return args;
}

// This step's keys and values join the cache, and attention reads from there.
template <class T>
void use_cache(const LayerContext& c, attn::Args<T>& args) {
  const std::int64_t width = c.spec.kv_width();
  const auto bytes = static_cast<std::size_t>(c.num_tokens * width) * sizeof(T);
  std::memcpy(c.cache.k->data<T>() + c.cache.length * width, args.k, bytes);
  std::memcpy(c.cache.v->data<T>() + c.cache.length * width, args.v, bytes);
  args.k = c.cache.k->data<T>();
  args.v = c.cache.v->data<T>();
}

template <class T>
void project(const AttentionLayer& layer, const LayerContext& c, const AttentionSaved<T>& s) {
  const std::int64_t n = c.num_tokens, q = c.spec.q_width(), kv = c.spec.kv_width();
  const bool normed = layer.q_norm != nullptr;
  linear_forward(layer.q, c.linear(kQ), n, s.normed, dense(normed ? s.q_raw : s.q, q), s.q_xa);
  linear_forward(layer.k, c.linear(kK), n, s.normed, dense(normed ? s.k_raw : s.k, kv), s.k_xa);
  linear_forward(layer.v, c.linear(kV), n, s.normed, dense(s.v, kv), s.v_xa);
  if (normed) {
    norm_heads_forward(c, *layer.q_norm, c.spec.num_heads, s.q_raw, s.q, s.q_rstd);
    norm_heads_forward(c, *layer.k_norm, c.spec.num_kv_heads, s.k_raw, s.k, s.k_rstd);
  }
  if (c.spec.clip_qkv > 0) {
    clip(s.q, n * q, c.spec.clip_qkv, c.pool);
    clip(s.k, n * kv, c.spec.clip_qkv, c.pool);
    clip(s.v, n * kv, c.spec.clip_qkv, c.pool);
  }
  rotate(c, c.spec.num_heads, s.q, 1.0f);
  rotate(c, c.spec.num_kv_heads, s.k, 1.0f);
}

// From d (f32, of the rotated heads) to the gradient of the linear layer's output.
template <class T>
void heads_backward(const LayerContext& c,
                    Parameter* weight,
                    std::int64_t heads,
                    const T* raw,
                    float* rstd,
                    float* d,
                    T* d_raw,
                    const Scratch<T>& scratch) {
  const std::int64_t width = heads * c.spec.head_dim, count = c.num_tokens * width;
  rotate(c, heads, d, -1.0f);
  if (weight == nullptr) {
    cast(d_raw, d, count, c.pool);
    return;
  }
  if (c.spec.clip_qkv > 0) {
    norm_heads_forward(c, *weight, heads, raw, scratch.clipped, rstd);
    clip_backward(scratch.clipped, d, count, c.spec.clip_qkv, c.pool);
  }
  norm::BackwardArgs<T> args;
  args.num_tokens = c.num_tokens;
  args.heads = norm_heads(c.spec, heads);
  args.dim = width / args.heads;
  args.x_stride = args.dy_stride = args.dx_stride = width;
  args.x = raw;
  args.weight = weight->value.template data<T>();
  args.rstd = rstd;
  args.dy = d;
  args.dx = d_raw;
  args.d_weight = weight->trainable ? weight->grad.data<float>() : nullptr;
  args.partial_scratch = scratch.partial;
  const profile::Scope scope(part::kNorms);
  norm::backward(args, c.pool);
}

}  // namespace

template <class T>
void AttentionSaved<T>::take(Arena& arena,
                             const AttentionLayer& layer,
                             const DecoderSpec& spec,
                             std::int64_t n) {
  const std::int64_t q_count = n * spec.q_width(), kv_count = n * spec.kv_width();
  rstd = arena.take<float>(n);
  normed = arena.take<T>(n * spec.hidden_size);
  const bool norms = layer.q_norm != nullptr;
  q_raw = norms ? arena.take<T>(q_count) : nullptr;
  k_raw = norms ? arena.take<T>(kv_count) : nullptr;
  q_rstd = norms ? arena.take<float>(n * norm_heads(spec, spec.num_heads)) : nullptr;
  k_rstd = norms ? arena.take<float>(n * norm_heads(spec, spec.num_kv_heads)) : nullptr;
  q = arena.take<T>(q_count);
  k = arena.take<T>(kv_count);
  v = arena.take<T>(kv_count);
  out = arena.take<T>(q_count);
  log_sum = arena.take<float>(n * spec.num_heads);
  q_xa = arena.take<T>(n * layer.q.rank());
  k_xa = arena.take<T>(n * layer.k.rank());
  v_xa = arena.take<T>(n * layer.v.rank());
  o_xa = arena.take<T>(n * layer.o.rank());
}

template <class T>
void attention_forward(const AttentionLayer& layer,
                       const LayerContext& c,
                       const T* x,
                       const AttentionSaved<T>& saved,
                       T* x_mid) {
  const std::int64_t n = c.num_tokens, hidden = c.spec.hidden_size, mark = c.arena.mark();
  Scratch<T> scratch;
  scratch.take(c.arena, c.spec, n, c.pool.num_threads(), false);
  norm::Args<T> args;
  args.num_tokens = n;
  args.dim = args.x_stride = args.y_stride = hidden;
  args.x = x;
  args.weight = layer.norm->value.template data<T>();
  args.eps = c.spec.rms_norm_eps;
  args.y = saved.normed;
  args.rstd = saved.rstd;
  {
    const profile::Scope scope(part::kNorms);
    norm::forward(args, c.pool);
  }
  project(layer, c, saved);
  attn::Args<T> attention = attention_args(layer, c, saved, scratch.attention);
  {
    const profile::Scope scope(part::kAttention);
    if (c.cache.k != nullptr) use_cache(c, attention);
    attn::forward(attention, c.pool);
  }
  linear_forward(layer.o, c.linear(kO), n, saved.out, dense(x_mid, hidden), saved.o_xa);
  add(x_mid, x_mid, x, n * hidden, c.pool);
  c.arena.rewind(mark);
}

template <class T>
void attention_backward(const AttentionLayer& layer,
                        const LayerContext& c,
                        const T* x,
                        const AttentionSaved<T>& saved,
                        T* d_x,
                        bool need_dx) {
  const DecoderSpec& spec = c.spec;
  const std::int64_t n = c.num_tokens, hidden = spec.hidden_size, mark = c.arena.mark();
  const std::int64_t q = spec.q_width(), kv = spec.kv_width();
  Scratch<T> s;
  s.take(c.arena, spec, n, c.pool.num_threads(), true);
  linear_backward<T>(layer.o, c.linear(kO),
                     {n, saved.out, saved.o_xa, dense(d_x, hidden), dense(s.d_out, q), false});
  attn::BackwardArgs<T> back;
  back.forward = attention_args(layer, c, saved, s.attention);
  back.d_out = s.d_out;
  back.d_q = s.d_q;
  back.d_k = s.d_k;
  back.d_v = s.d_v;
  {
    const profile::Scope scope(part::kAttention);
    attn::backward(back, c.pool);
  }
  heads_backward(c, layer.q_norm, spec.num_heads, saved.q_raw, saved.q_rstd, s.d_q, s.d_q_raw, s);
  heads_backward(c, layer.k_norm, spec.num_kv_heads, saved.k_raw, saved.k_rstd, s.d_k, s.d_k_raw,
                 s);
  // A clipped value equals the limit itself.
  if (spec.clip_qkv > 0) {
    const float below = std::nextafter(static_cast<float>(T(spec.clip_qkv)), 0.0f);
    clip_backward(saved.v, s.d_v, n * kv, below, c.pool);
  }
  cast(s.d_v_raw, s.d_v, n * kv, c.pool);
  const Matrix d_normed = need_dx ? dense(s.d_normed, hidden) : Matrix{};
  linear_backward<T>(layer.q, c.linear(kQ),
                     {n, saved.normed, saved.q_xa, dense(s.d_q_raw, q), d_normed, false});
  linear_backward<T>(layer.k, c.linear(kK),
                     {n, saved.normed, saved.k_xa, dense(s.d_k_raw, kv), d_normed, true});
  linear_backward<T>(layer.v, c.linear(kV),
                     {n, saved.normed, saved.v_xa, dense(s.d_v_raw, kv), d_normed, true});
  if (need_dx) {
    norm::BackwardArgs<T> args;
    args.num_tokens = n;
    args.dim = args.x_stride = args.dy_stride = args.dx_stride = hidden;
    args.x = x;
    args.weight = layer.norm->value.template data<T>();
    args.rstd = saved.rstd;
    args.dy = s.d_normed;
    args.add = args.dx = d_x;
    args.d_weight = layer.norm->trainable ? layer.norm->grad.template data<float>() : nullptr;
    args.partial_scratch = s.partial;
    const profile::Scope scope(part::kNorms);
    norm::backward(args, c.pool);
  }
  c.arena.rewind(mark);
}

template <class T>
void reserve_attention_scratch(const AttentionLayer& layer,
                               const DecoderSpec& spec,
                               Arena& arena,
                               std::int64_t n,
                               int num_threads,
                               bool backward,
                               bool dropout) {
  const std::int64_t mark = arena.mark();
  Scratch<T> scratch;
  scratch.take(arena, spec, n, num_threads, backward);
  for (const Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o}) {
    reserve_linear_scratch<T>(*linear, arena, n, dropout);
  }
  arena.rewind(mark);
}

#define MOESMITH_INSTANTIATE(T)                                                                 \
  template struct AttentionSaved<T>;                                                            \
  template void attention_forward<T>(const AttentionLayer&, const LayerContext&, const T*,      \
                                     const AttentionSaved<T>&, T*);                             \
  template void attention_backward<T>(const AttentionLayer&, const LayerContext&, const T*,     \
                                      const AttentionSaved<T>&, T*, bool);                      \
  template void reserve_attention_scratch<T>(const AttentionLayer&, const DecoderSpec&, Arena&, \
                                             std::int64_t, int, bool, bool);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::model
