// SPDX-License-Identifier: Apache-2.0
#include "model/linear.h"

#include <algorithm>

#include "core/profile.h"
#include "core/rng.h"
#include "kernels/gemm/gemm.h"
#include "kernels/rows/rows.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

namespace gemm = kernels::gemm;

gemm::Operand row_major(const Matrix& m) { return {m.data, m.dtype, m.stride, 1}; }
gemm::Operand transposed(const Matrix& m) { return {m.data, m.dtype, 1, m.stride}; }
gemm::Operand row_major(const Tensor& t) { return gemm::row_major(t.raw(), t.dtype(), t.dim(1)); }
gemm::Operand transposed(const Tensor& t) { return gemm::transposed(t.raw(), t.dtype(), t.dim(1)); }

// c (+)= alpha * a b (+ bias), charged to `part`
void product(const char* part,
             std::int64_t m,
             std::int64_t n,
             std::int64_t k,
             gemm::Operand a,
             gemm::Operand b,
             const Matrix& c,
             float alpha,
             bool accumulate,
             ThreadPool& pool,
             const Tensor* bias = nullptr) {
  const profile::Scope scope(
      part, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
  gemm::Args args;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a = a;
  args.b = b;
  args.c = c.data;
  args.c_dtype = c.dtype;
  args.ldc = c.stride;
  args.alpha = alpha;
  args.accumulate = accumulate;
  if (bias != nullptr) {
    args.bias = bias->raw();
    args.bias_dtype = bias->dtype();
  }
  gemm::run(args, pool);
}

Matrix matrix(Tensor& t) { return {t.raw(), t.dtype(), t.dim(1)}; }
template <class T>
Matrix dense(T* data, std::int64_t cols) {
  return {data, DTypeOf<T>::value, cols};
}

// Calls body(begin, end, u) for stretches of `count` elements, with a uniform number for each
// element; called again, it gives the same.
template <class Body>
void with_uniforms(const Dropout& dropout, std::int64_t count, ThreadPool& pool, const Body& body) {
  const profile::Scope scope(part::kLora);
  constexpr std::int64_t kStretch = 4096;
  const Rng rng(dropout.seed, dropout.stream);
  pool.for_chunks(count, kStretch, [&](std::int64_t begin, std::int64_t end) {
    float u[kStretch];
    rng.uniforms(static_cast<std::uint64_t>(begin), {u, static_cast<std::size_t>(end - begin)});
    body(begin, end, u);
  });
}

// y = x / (1 - p) where the element is kept, else 0.
template <class T>
void drop(const Dropout& dropout, const T* x, T* y, std::int64_t count, ThreadPool& pool) {
  const auto p = static_cast<float>(dropout.probability);
  with_uniforms(dropout, count, pool, [&](std::int64_t begin, std::int64_t end, const float* u) {
    kernels::rows::ops<T>().keep(y + begin, x + begin, u, p, 1.0f / (1.0f - p), end - begin);
  });
}

// Its gradient: y += d / (1 - p) where the element was kept.
template <class U>
void add_dropped(
    const Dropout& dropout, const float* d, U* y, std::int64_t count, ThreadPool& pool) {
  const auto p = static_cast<float>(dropout.probability);
  with_uniforms(dropout, count, pool, [&](std::int64_t begin, std::int64_t end, const float* u) {
    kernels::rows::ops<U>().add_kept(y + begin, d + begin, u, p, 1.0f / (1.0f - p), end - begin);
  });
}

// d_bias[j] += sum over i of dy[i, j], in the order of i.
void add_bias_grad(const Matrix& dy, std::int64_t n, Tensor& grad, ThreadPool& pool) {
  const profile::Scope scope(part::kDense);
  auto* out = grad.data<float>();
  pool.for_chunks(grad.numel(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = i * dy.stride + begin;
      if (dy.dtype == DType::kF32) {
        kernels::rows::ops<float>().axpy(out + begin, static_cast<const float*>(dy.data) + at, 1.0f,
                                         end - begin);
      } else {
        kernels::rows::ops<bf16>().axpy(out + begin, static_cast<const bf16*>(dy.data) + at, 1.0f,
                                        end - begin);
      }
    }
  });
}

// The adapter's input: x, or x after dropout in scratch.
template <class T>
const T* adapter_input(const Linear& linear, const LinearContext& c, std::int64_t n, const T* x) {
  if (c.dropout.probability == 0) return x;
  T* dropped = c.arena.take<T>(n * linear.in);
  drop(c.dropout, x, dropped, n * linear.in, c.pool);
  return dropped;
}

template <class T>
void lora_backward(const Linear& linear, const LinearContext& c, const LinearBackward<T>& args) {
  Lora& lora = *linear.lora;
  const std::int64_t n = args.n, r = lora.slot.r;
  const auto scale = static_cast<float>(lora.slot.scale);
  // d = scale * dy B [n, r]: dA += d^T x, dx += d A.
  const Matrix d = dense(c.arena.take<T>(n * r), r);
  product(part::kLora, n, r, linear.out, row_major(args.dy), row_major(lora.b_packed), d, scale,
          false, c.pool);
  if (lora.b.trainable) {
    const Matrix xa = dense(const_cast<T*>(args.xa), r);
    product(part::kLora, linear.out, r, n, transposed(args.dy), row_major(xa), matrix(lora.b.grad),
            scale, true, c.pool);
  }
  if (lora.a.trainable) {
    const std::int64_t mark = c.arena.mark();
    const T* x = adapter_input(linear, c, n, args.x);
    product(part::kLora, r, linear.in, n, transposed(d),
            gemm::row_major(x, DTypeOf<T>::value, linear.in), matrix(lora.a.grad), 1.0f, true,
            c.pool);
    c.arena.rewind(mark);
  }
  if (args.dx.data == nullptr) return;
  if (c.dropout.probability == 0) {
    product(part::kLora, n, linear.in, r, row_major(d), row_major(lora.a_packed), args.dx, 1.0f,
            true, c.pool);
    return;
  }
  const Matrix through = dense(c.arena.take<float>(n * linear.in), linear.in);
  product(part::kLora, n, linear.in, r, row_major(d), row_major(lora.a_packed), through, 1.0f,
          false, c.pool);
  const auto* from = static_cast<const float*>(through.data);
  if (args.dx.dtype == DType::kF32) {
    add_dropped(c.dropout, from, static_cast<float*>(args.dx.data), n * linear.in, c.pool);
  } else {
    add_dropped(c.dropout, from, static_cast<bf16*>(args.dx.data), n * linear.in, c.pool);
  }
}

}  // namespace

void Lora::pack(DType compute, ThreadPool& pool) {
  if (slot.num_experts > 0) return;
  const auto copy = [&](const Tensor& from, Tensor& to) {
    if (compute == DType::kF32) {
      to = from;
      return;
    }
    if (!to.defined()) to = Tensor::empty(from.shape(), compute);
    from_f32(to.data<bf16>(), from.data<float>(), from.numel(), pool);
  };
  copy(a.value, a_packed);
  copy(b.value, b_packed);
}

template <class T>
void linear_forward(
    const Linear& linear, const LinearContext& c, std::int64_t n, const T* x, Matrix y, T* xa) {
  const Tensor* bias = linear.bias == nullptr ? nullptr : &linear.bias->value;
  product(part::kDense, n, linear.out, linear.in, gemm::row_major(x, DTypeOf<T>::value, linear.in),
          transposed(linear.weight->value), y, 1.0f, false, c.pool, bias);
  if (linear.lora == nullptr) return;
  const std::int64_t mark = c.arena.mark(), r = linear.lora->slot.r;
  const T* input = adapter_input(linear, c, n, x);
  product(part::kLora, n, r, linear.in, gemm::row_major(input, DTypeOf<T>::value, linear.in),
          transposed(linear.lora->a_packed), dense(xa, r), 1.0f, false, c.pool);
  c.arena.rewind(mark);
  product(part::kLora, n, linear.out, r, row_major(dense(xa, r)), transposed(linear.lora->b_packed),
          y, static_cast<float>(linear.lora->slot.scale), true, c.pool);
}

template <class T>
void linear_backward(const Linear& linear, const LinearContext& c, const LinearBackward<T>& args) {
  if (args.dx.data != nullptr) {
    product(part::kDense, args.n, linear.in, linear.out, row_major(args.dy),
            row_major(linear.weight->value), args.dx, 1.0f, args.accumulate_dx, c.pool);
  }
  if (linear.weight->trainable) {
    product(part::kDense, linear.out, linear.in, args.n, transposed(args.dy),
            gemm::row_major(args.x, DTypeOf<T>::value, linear.in), matrix(linear.weight->grad),
            1.0f, true, c.pool);
  }
  if (linear.bias != nullptr && linear.bias->trainable) {
    add_bias_grad(args.dy, args.n, linear.bias->grad, c.pool);
  }
  if (linear.lora == nullptr) return;
  const std::int64_t mark = c.arena.mark();
  lora_backward(linear, c, args);
  c.arena.rewind(mark);
}

template <class T>
void reserve_linear_scratch(const Linear& linear, Arena& arena, std::int64_t n, bool dropout) {
  if (linear.lora == nullptr) return;
  const std::int64_t mark = arena.mark();
  arena.take<T>(n * linear.rank());
  if (dropout) arena.take<float>(n * linear.in);
  arena.rewind(mark);
}

template void linear_forward<float>(
    const Linear&, const LinearContext&, std::int64_t, const float*, Matrix, float*);
template void linear_forward<bf16>(
    const Linear&, const LinearContext&, std::int64_t, const bf16*, Matrix, bf16*);
template void linear_backward<float>(const Linear&,
                                     const LinearContext&,
                                     const LinearBackward<float>&);
template void linear_backward<bf16>(const Linear&,
                                    const LinearContext&,
                                    const LinearBackward<bf16>&);
template void reserve_linear_scratch<float>(const Linear&, Arena&, std::int64_t, bool);
template void reserve_linear_scratch<bf16>(const Linear&, Arena&, std::int64_t, bool);

}  // namespace moesmith::model
