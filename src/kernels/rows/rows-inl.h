// SPDX-License-Identifier: Apache-2.0
// Body of the row primitives, included once per instruction set with MOESMITH_ROWS_NAMESPACE set.

#include <cstring>
#include <limits>

#include "kernels/rows/rows.h"
#include "kernels/rows/vector-inl.h"

namespace moesmith::kernels::rows::MOESMITH_ROWS_NAMESPACE {
namespace {

using namespace vectors;

constexpr std::int64_t kLine = 64;  // bytes of a cache line

// The first n < kLanes elements, the rest 0.
template <class T>
MOESMITH_INLINE V load_tail(const T* p, std::int64_t n) {
  T tmp[kLanes] = {};
  std::memcpy(tmp, p, static_cast<std::size_t>(n) * sizeof(T));
  return load(tmp);
}
template <class T>
MOESMITH_INLINE void store_tail(T* p, const V& v, std::int64_t n) {
  T tmp[kLanes];
  store(tmp, v);
  std::memcpy(p, tmp, static_cast<std::size_t>(n) * sizeof(T));
}

typedef float V4 __attribute__((vector_size(16)));

// Halves joined by `join` until one element is left.
template <class Join>
MOESMITH_INLINE float fold(const V& v, const Join& join) {
  typedef float V8 __attribute__((vector_size(32)));
  V4 b[2];
  if constexpr (kLanes == 16) {
    V8 a[2];
    std::memcpy(a, &v, sizeof a);
    a[0] = join(a[0], a[1]);
    std::memcpy(b, &a[0], sizeof b);
    b[0] = join(b[0], b[1]);
  } else if constexpr (kLanes == 8) {
    std::memcpy(b, &v, sizeof b);
    b[0] = join(b[0], b[1]);
  } else {
    std::memcpy(&b[0], &v, sizeof b[0]);
  }
  b[0] = join(b[0], __builtin_shufflevector(b[0], b[0], 2, 3, 2, 3));
  return join(b[0], __builtin_shufflevector(b[0], b[0], 1, 1, 1, 1))[0];
}
MOESMITH_INLINE float reduce(const V& v) {
  return fold(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
MOESMITH_INLINE float largest(const V& v) {
  return fold(
      v, [](auto a, auto b) __attribute__((always_inline)) { return b > a ? b : a; });
}

// Calls body(load, store, offset) for whole vectors and once for the tail.
struct Whole {
  std::int64_t at;
  template <class T>
  MOESMITH_INLINE V get(const T* p) const {
    return load(p + at);
  }
  template <class T>
  MOESMITH_INLINE void put(T* p, const V& v) const {
    store(p + at, v);
  }
  // v without what lies past the end.
  MOESMITH_INLINE V inside(const V& v) const { return v; }
};
struct Tail {
  std::int64_t at, n;
  template <class T>
  MOESMITH_INLINE V get(const T* p) const {
    return load_tail(p + at, n);
  }
  template <class T>
  MOESMITH_INLINE void put(T* p, const V& v) const {
    store_tail(p + at, v, n);
  }
  MOESMITH_INLINE V inside(const V& v) const {
    float lane[kLanes];
    store(lane, v);
    return load_tail(lane, n);
  }
};
template <class Body>
MOESMITH_INLINE void each(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(Whole{i});
  if (i < n) body(Tail{i, n - i});
}

// The sum of term(at), which is 0 past the end: sixteen running sums whatever the width of a
// register, which hides the latency of additions and gives every instruction set the same order.
template <class Term>
MOESMITH_INLINE float sum_of(std::int64_t n, const Term& term) {
  constexpr std::int64_t kSums = 16, kParts = kSums / kLanes;
  V part[kParts] = {};
  std::int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (std::int64_t p = 0; p < kParts; ++p) part[p] += term(Whole{i + p * kLanes});
  }
  for (std::int64_t p = 0; i < n; i += kLanes, ++p) {
    part[p] += i + kLanes <= n ? term(Whole{i}) : term(Tail{i, n - i});
  }
  for (std::int64_t half = kParts / 2; half > 0; half /= 2) {
    for (std::int64_t p = 0; p < half; ++p) part[p] += part[p + half];
  }
  return reduce(part[0]);
}

// In the order of torch's sum over a contiguous axis: eight lanes, four sums each, then the tail
// and the lanes one by one. A norm scales a whole row by one number, so its last bit shows in every
// element; in this order it is mostly torch's.
template <class T>
float sum_squares(const T* x, std::int64_t n) {
  constexpr std::int64_t kTorchLanes = 8, kSums = 4 * kTorchLanes;
  V sums[kSums / kLanes] = {};
  std::int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (std::int64_t l = 0; l < kSums; l += kLanes) {
      const V a = load(x + i + l);
      sums[l / kLanes] += a * a;
    }
  }
  float lane[kSums];
  std::memcpy(lane, sums, sizeof lane);
  const auto square = [x](std::int64_t at) {
    const auto v = static_cast<float>(x[at]);
    return v * v;
  };
  for (; i + kTorchLanes <= n; i += kTorchLanes) {
    for (std::int64_t l = 0; l < kTorchLanes; ++l) lane[l] += square(i + l);
  }
  float total = 0;
  for (; i < n; ++i) total += square(i);
  for (std::int64_t l = 0; l < kTorchLanes; ++l) {
    total += lane[l] + lane[l + 8] + lane[l + 16] + lane[l + 24];
  }
  return total;
}

template <class T>
float dot(const T* a, const T* b, std::int64_t n) {
  return sum_of(n, [&](auto at) { return at.get(a) * at.get(b); });
}

template <class T>
void scale_by(T* y, const T* x, const T* w, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(x) * scale * at.get(w)); });
}

template <class T>
float dot3(const float* dy, const T* w, const T* x, std::int64_t n) {
  return sum_of(n, [&](auto at) { return at.get(dy) * at.get(w) * at.get(x); });
}

template <class T>
void norm_backward(T* out,
                   const T* add,
                   const float* dy,
                   const T* w,
                   const T* x,
                   float rstd,
                   float c,
                   std::int64_t n) {
  each(n, [&](auto at) {
    V v = (at.get(dy) * at.get(w) - at.get(x) * c) * rstd;
    if (add != nullptr) v += at.get(add);
    at.put(out, v);
  });
}

template <class T>
void norm_weight_grad(float* dw, const float* dy, const T* x, float rstd, std::int64_t n) {
  each(n, [&](auto at) { at.put(dw, at.get(dw) + at.get(dy) * at.get(x) * rstd); });
}

template <class T>
void add(T* y, const T* a, const T* b, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(a) + at.get(b)); });
}

template <class T>
void axpy(float* y, const T* x, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(y) + at.get(x) * scale); });
}

template <class T>
void from_f32(T* y, const float* x, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(x) * scale); });
}

#if defined(__AVX512F__)
MOESMITH_INLINE void store_past(void* p, const char* line) {
  _mm512_stream_si512(static_cast<__m512i*>(p), _mm512_loadu_si512(line));
}
#elif defined(__AVX2__)
MOESMITH_INLINE void store_past(void* p, const char* line) {
  for (int i = 0; i < 2; ++i) {
    _mm256_stream_si256(static_cast<__m256i*>(p) + i,
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line) + i));
  }
}
#else
MOESMITH_INLINE void store_past(void* p, const char* line) { std::memcpy(p, line, kLine); }
#endif

template <class T>
void stream(T* y, const float* x, std::int64_t n) {
  constexpr std::int64_t kPerLine = kLine / static_cast<std::int64_t>(sizeof(T));
  if (reinterpret_cast<std::uintptr_t>(y) % kLine != 0 || n % kPerLine != 0) {
    return from_f32(y, x, 1.0f, n);
  }
  for (std::int64_t i = 0; i < n; i += kPerLine) {
    T line[kPerLine];
    for (std::int64_t j = 0; j < kPerLine; j += kLanes) store(line + j, load(x + i + j));
    store_past(y + i, reinterpret_cast<const char*>(line));
  }
}

template <class T>
void to_f32(float* y, const T* x, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(x) * scale); });
}

MOESMITH_INLINE V4 load_4(const float* p) {
  V4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
MOESMITH_INLINE V4 load_4(const bf16* p) {
  typedef std::uint16_t VH4 __attribute__((vector_size(8)));
  typedef std::uint32_t VU4 __attribute__((vector_size(16)));
  VH4 h;
  std::memcpy(&h, p, sizeof h);
  return (V4)(__builtin_convertvector(h, VU4) << 16);
}

template <class T>
MOESMITH_INLINE void turn_4x4(float* to,
                              std::int64_t to_stride,
                              const T* from,
                              std::int64_t stride) {
  const V4 a = load_4(from), b = load_4(from + stride);
  const V4 c = load_4(from + 2 * stride), d = load_4(from + 3 * stride);
  const V4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const V4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const V4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const V4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const V4 columns[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                         __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                         __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                         __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * to_stride, &columns[i], sizeof(V4));
}

template <class T>
void turn(float* to,
          std::int64_t to_stride,
          const T* from,
          std::int64_t from_stride,
          std::int64_t num_rows,
          std::int64_t num_columns) {
  const std::int64_t whole_rows = num_rows / 4 * 4, whole_columns = num_columns / 4 * 4;
  for (std::int64_t r = 0; r < whole_rows; r += 4) {
    for (std::int64_t c = 0; c < whole_columns; c += 4) {
      turn_4x4(to + c * to_stride + r, to_stride, from + r * from_stride + c, from_stride);
    }
  }
  for (std::int64_t r = 0; r < num_rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole_columns : 0; c < num_columns; ++c) {
      to[c * to_stride + r] = static_cast<float>(from[r * from_stride + c]);
    }
  }
}

float row_max(const float* x, std::int64_t n) {
  V top = splat(-std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V v = load(x + i);
    top = v > top ? v : top;
  }
  float max = largest(top);
  for (; i < n; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

template <class T>
float exp_shift(T* y, const float* x, float scale, float shift, std::int64_t n) {
  return sum_of(n, [&](auto at) {
    const V v = exp(at.get(x) * scale - shift);
    at.put(y, v);
    return at.inside(v);
  });
}

template <class T>
void softmax_backward(T* p,
                      T* ds,
                      const float* s,
                      const float* dp,
                      float scale,
                      const float* lse,
                      const float* delta,
                      std::int64_t n) {
  each(n, [&](auto at) {
    const V v = exp(at.get(s) * scale - at.get(lse));
    at.put(p, v);
    at.put(ds, v * (at.get(dp) - at.get(delta)) * scale);
  });
}

template <class T>
void rotate(T* y, const T* x, const float* cosine, const float* sine, float sign, std::int64_t n) {
  each(n, [&](auto at) {
    const V a = at.get(x), b = at.get(x + n);
    const V c = at.get(cosine), s = at.get(sine) * sign;
    at.put(y, a * c - b * s);
    at.put(y + n, b * c + a * s);
  });
}

MOESMITH_INLINE V kept(const V& x, const V& u, float p, float scale) {
  return u >= splat(p) ? x * scale : V{};
}
template <class T>
void keep(T* y, const T* x, const float* u, float p, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, kept(at.get(x), at.get(u), p, scale)); });
}
template <class T>
void add_kept(T* y, const float* x, const float* u, float p, float scale, std::int64_t n) {
  each(n, [&](auto at) { at.put(y, at.get(y) + kept(at.get(x), at.get(u), p, scale)); });
}

template <class T>
void silu_mul(T* y, const T* gate, const T* up, std::int64_t n) {
  each(n, [&](auto at) {
    const V g = at.get(gate);
    at.put(y, g * sigmoid(g) * at.get(up));
  });
}

template <class T>
void silu_mul_backward(
    T* d_gate, T* d_up, const T* gate, const T* up, const T* dy, std::int64_t n) {
  each(n, [&](auto at) {
    const V g = at.get(gate), u = at.get(up), d = at.get(dy);
    const V s = sigmoid(g);
    at.put(d_gate, d * u * s * (1.0f + g * (1.0f - s)));
    at.put(d_up, d * g * s);
  });
}

template <class T>
constexpr Ops<T> kOps = {sum_squares<T>,
                         dot<T>,
                         scale_by<T>,
                         dot3<T>,
                         norm_backward<T>,
                         norm_weight_grad<T>,
                         add<T>,
                         axpy<T>,
                         from_f32<T>,
                         to_f32<T>,
                         turn<T>,
                         stream<T>,
                         row_max,
                         exp_shift<T>,
                         softmax_backward<T>,
                         rotate<T>,
                         keep<T>,
                         add_kept<T>,
                         silu_mul<T>,
                         silu_mul_backward<T>};

}  // namespace

const Ops<float>& f32_ops() { return kOps<float>; }
const Ops<bf16>& bf16_ops() { return kOps<bf16>; }

#undef MOESMITH_INLINE

}  // namespace moesmith::kernels::rows::MOESMITH_ROWS_NAMESPACE
