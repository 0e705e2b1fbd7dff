// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_layer.h"

#include "core/profile.h"
#include "kernels/rms_norm/rms_norm.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

namespace norm = kernels::rms_norm;

struct Scratch {
  float* d_normed = nullptr;  // [n, hidden]
  float* partial = nullptr;

  void take(Arena& arena, const DecoderSpec& spec, std::int64_t n) {
    d_normed = arena.take<float>(n * spec.hidden_size);
    partial = arena.take<float>(norm::partial_floats(n, spec.hidden_size));
  }
};

}  // namespace

template <class T>
void LayerSaved<T>::take(Arena& arena,
                         const DecoderLayer& layer,
                         const DecoderSpec& spec,
                         std::int64_t n,
                         int num_threads,
                         bool training) {
  attention.take(arena, layer.attention, spec, n);
  x_mid = arena.take<T>(n * spec.hidden_size);
  rstd = arena.take<float>(n);
  normed = arena.take<T>(n * spec.hidden_size);
  if (layer.dense) dense.take(arena, *layer.dense, n);
  if (layer.moe) moe.take(arena, *layer.moe, n, num_threads, training);
}

template <class T>
void layer_forward(const DecoderLayer& layer,
                   const LayerContext& c,
                   const T* x,
                   const LayerSaved<T>& saved,
                   T* y,
                   BalanceStatistics* balance) {
  attention_forward(layer.attention, c, x, saved.attention, saved.x_mid);
  norm::Args<T> args;
  args.num_tokens = c.num_tokens;
  args.dim = args.x_stride = args.y_stride = c.spec.hidden_size;
  args.x = saved.x_mid;
  args.weight = layer.mlp_norm->value.template data<T>();
  args.eps = c.spec.rms_norm_eps;
  args.y = saved.normed;
  args.rstd = saved.rstd;
  {
    const profile::Scope scope(part::kNorms);
    norm::forward(args, c.pool);
  }
  if (layer.dense) {
    mlp_forward<T>(*layer.dense, c, saved.normed, saved.dense, y);
  } else {
    moe_forward<T>(*layer.moe, c, saved.normed, saved.moe, y, balance);
  }
  add<T>(y, y, saved.x_mid, c.num_tokens * c.spec.hidden_size, c.pool);
}

template <class T>
void layer_backward(const DecoderLayer& layer,
                    const LayerContext& c,
                    const T* x,
                    const LayerSaved<T>& saved,
                    T* d_x,
                    const float* d_prob,
                    bool need_dx) {
  const std::int64_t mark = c.arena.mark();
  Scratch s;
  s.take(c.arena, c.spec, c.num_tokens);
  if (layer.dense) {
    mlp_backward<T>(*layer.dense, c, saved.normed, saved.dense, d_x, s.d_normed, false);
  } else {
    moe_backward<T>(*layer.moe, c, saved.normed, saved.moe, d_x, s.d_normed, d_prob);
  }
  norm::BackwardArgs<T> args;
  args.num_tokens = c.num_tokens;
  args.dim = args.x_stride = args.dy_stride = args.dx_stride = c.spec.hidden_size;
  args.x = saved.x_mid;
  args.weight = layer.mlp_norm->value.template data<T>();
  args.rstd = saved.rstd;
  args.dy = s.d_normed;
  args.add = args.dx = d_x;
  args.d_weight = layer.mlp_norm->trainable ? layer.mlp_norm->grad.template data<float>() : nullptr;
  args.partial_scratch = s.partial;
  {
    const profile::Scope scope(part::kNorms);
    norm::backward(args, c.pool);
  }
  c.arena.rewind(mark);
  attention_backward(layer.attention, c, x, saved.attention, d_x, need_dx);
}

template <class T>
void reserve_layer_scratch(const DecoderLayer& layer,
                           const DecoderSpec& spec,
                           Arena& arena,
                           std::int64_t n,
                           int num_threads,
                           bool backward,
                           bool dropout) {
  reserve_attention_scratch<T>(layer.attention, spec, arena, n, num_threads, backward, dropout);
  const std::int64_t mark = arena.mark();
  Scratch scratch;
  if (backward) scratch.take(arena, spec, n);
  if (layer.dense) reserve_mlp_scratch<T>(*layer.dense, arena, n, backward, dropout);
  if (layer.moe) reserve_moe_scratch<T>(*layer.moe, arena, n, num_threads, backward, dropout);
  arena.rewind(mark);
}

#define MOESMITH_INSTANTIATE(T)                                                           \
  template struct LayerSaved<T>;                                                          \
  template void layer_forward<T>(const DecoderLayer&, const LayerContext&, const T*,      \
                                 const LayerSaved<T>&, T*, BalanceStatistics*);           \
  template void layer_backward<T>(const DecoderLayer&, const LayerContext&, const T*,     \
                                  const LayerSaved<T>&, T*, const float*, bool);          \
  template void reserve_layer_scratch<T>(const DecoderLayer&, const DecoderSpec&, Arena&, \
                                         std::int64_t, int, bool, bool);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::model
