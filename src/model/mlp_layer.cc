// SPDX-License-Identifier: Apache-2.0
#include "model/mlp_layer.h"

#include "core/profile.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

template <class T>
Matrix dense(T* data, std::int64_t cols) {
  return {data, DTypeOf<T>::value, cols};
}

template <class T>
struct Scratch {
  T *d_act = nullptr, *d_gate = nullptr, *d_up = nullptr;  // [n, inter]
  void take(Arena& arena, const MlpLayer& layer, std::int64_t n) {
    for (T** buffer : {&d_act, &d_gate, &d_up}) *buffer = arena.take<T>(n * layer.gate.out);
  }
};

template <class Body>
void activate(const LayerContext& c, std::int64_t count, const Body& body) {
  const profile::Scope scope(part::kElementwise);
  c.pool.for_chunks(count, kElementChunk, body);
}

}  // namespace

template <class T>
void MlpSaved<T>::take(Arena& arena, const MlpLayer& layer, std::int64_t n) {
  for (T** buffer : {&gate, &up, &act}) *buffer = arena.take<T>(n * layer.gate.out);
  gate_xa = arena.take<T>(n * layer.gate.rank());
  up_xa = arena.take<T>(n * layer.up.rank());
  down_xa = arena.take<T>(n * layer.down.rank());
}

template <class T>
void mlp_forward(
    const MlpLayer& layer, const LayerContext& c, const T* x, const MlpSaved<T>& s, T* y) {
  const std::int64_t n = c.num_tokens, inter = layer.gate.out;
  linear_forward(layer.gate, c.linear(kGate), n, x, dense(s.gate, inter), s.gate_xa);
  linear_forward(layer.up, c.linear(kUp), n, x, dense(s.up, inter), s.up_xa);
  activate(c, n * inter, [&](std::int64_t begin, std::int64_t end) {
    kernels::rows::ops<T>().silu_mul(s.act + begin, s.gate + begin, s.up + begin, end - begin);
  });
  linear_forward(layer.down, c.linear(kDown), n, s.act, dense(y, layer.down.out), s.down_xa);
}

template <class T>
void mlp_backward(const MlpLayer& layer,
                  const LayerContext& c,
                  const T* x,
                  const MlpSaved<T>& s,
                  T* d_y,
                  float* d_x,
                  bool accumulate) {
  const std::int64_t n = c.num_tokens, inter = layer.gate.out, mark = c.arena.mark();
  Scratch<T> b;
  b.take(c.arena, layer, n);
  linear_backward<T>(
      layer.down, c.linear(kDown),
      {n, s.act, s.down_xa, dense(d_y, layer.down.out), dense(b.d_act, inter), false});
  activate(c, n * inter, [&](std::int64_t begin, std::int64_t end) {
    kernels::rows::ops<T>().silu_mul_backward(b.d_gate + begin, b.d_up + begin, s.gate + begin,
                                              s.up + begin, b.d_act + begin, end - begin);
  });
  const Matrix dx = dense(d_x, layer.gate.in);
  linear_backward<T>(layer.gate, c.linear(kGate),
                     {n, x, s.gate_xa, dense(b.d_gate, inter), dx, accumulate});
  linear_backward<T>(layer.up, c.linear(kUp), {n, x, s.up_xa, dense(b.d_up, inter), dx, true});
  c.arena.rewind(mark);
}

template <class T>
void reserve_mlp_scratch(
    const MlpLayer& layer, Arena& arena, std::int64_t n, bool backward, bool dropout) {
  const std::int64_t mark = arena.mark();
  Scratch<T> scratch;
  if (backward) scratch.take(arena, layer, n);
  for (const Linear* linear : {&layer.gate, &layer.up, &layer.down}) {
    reserve_linear_scratch<T>(*linear, arena, n, dropout);
  }
  arena.rewind(mark);
}

#define MOESMITH_INSTANTIATE(T)                                                                    \
  template struct MlpSaved<T>;                                                                     \
  template void mlp_forward<T>(const MlpLayer&, const LayerContext&, const T*, const MlpSaved<T>&, \
                               T*);                                                                \
  template void mlp_backward<T>(const MlpLayer&, const LayerContext&, const T*,                    \
                                const MlpSaved<T>&, T*, float*, bool);                             \
  template void reserve_mlp_scratch<T>(const MlpLayer&, Arena&, std::int64_t, bool, bool);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::model
