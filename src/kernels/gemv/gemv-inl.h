// SPDX-License-Identifier: Apache-2.0
// Body of the products, included once per instruction set with MOESMITH_GEMV_NAMESPACE and its
// kLanes (f32 in a register), kMaxRows (rows of x at a time) and kSumBlock (rows of w side by side
// in `sum`) given as MOESMITH_GEMV_LANES, _ROWS and _BLOCK; _PAIRS where pairs
// of bf16 are multiplied. GCC's vector extension.

#include <cstring>

#include "kernels/gemv/kernels.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a call: all of these are inlined

namespace moesmith::kernels::gemv::MOESMITH_GEMV_NAMESPACE {
namespace {

#define MOESMITH_INLINE inline __attribute__((always_inline))

constexpr int kLanes = MOESMITH_GEMV_LANES;
constexpr int kMaxRows = MOESMITH_GEMV_ROWS;
constexpr int kSumBlock = MOESMITH_GEMV_BLOCK;
constexpr int kChains = 4;  // independent sums: enough to hide the latency of one

typedef float V __attribute__((vector_size(kLanes * 4)));
typedef float V4 __attribute__((vector_size(16)));
typedef std::uint32_t VU __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t VH __attribute__((vector_size(kLanes * 2)));

MOESMITH_INLINE V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
MOESMITH_INLINE V load(const bf16* p) {
  VH h;
  std::memcpy(&h, p, sizeof h);
  return (V)(__builtin_convertvector(h, VU) << 16);
}
MOESMITH_INLINE void store(float* p, const V& v) { std::memcpy(p, &v, sizeof v); }

// The first n < kLanes elements, the rest 0.
template <class T>
MOESMITH_INLINE V load_tail(const T* p, std::int64_t n) {
  T part[kLanes] = {};
  std::memcpy(part, p, static_cast<std::size_t>(n) * sizeof(T));
  return load(part);
}

MOESMITH_INLINE float reduce(const V& v) {
  float lane[kLanes];
  store(lane, v);
  V4 four{};
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    V4 part;
    std::memcpy(&part, lane + i, sizeof part);
    four += part;
  }
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// How a vector of w meets one of x: widened to f32, or as pairs of bf16.
template <class W>
struct Widened {
  using Row = float;
  using Vec = V;
  static constexpr int kStep = kLanes;  // elements of k in a vector
  static const Row* row(const Call<W>& call, std::int64_t r) { return call.rows[r]; }
  static MOESMITH_INLINE Vec of_w(const W* p) { return load(p); }
  static MOESMITH_INLINE Vec of_w_tail(const W* p, std::int64_t n) { return load_tail(p, n); }
  static MOESMITH_INLINE V add(const Row* x, const Vec& w, const V& sum) {
    return sum + load(x) * w;
  }
  static MOESMITH_INLINE V add_tail(const Row* x, const Vec& w, const V& sum, std::int64_t n) {
    return sum + load_tail(x, n) * w;
  }
};

#ifdef MOESMITH_GEMV_PAIRS
struct Pairs {
  using Row = bf16;
  using Vec = __m512i;
  static constexpr int kStep = 2 * kLanes;
  static const Row* row(const Call<bf16>& call, std::int64_t r) { return call.narrow_rows[r]; }
  static MOESMITH_INLINE Vec of_w(const bf16* p) { return _mm512_loadu_si512(p); }
  static MOESMITH_INLINE Vec of_w_tail(const bf16* p, std::int64_t n) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << n) - 1), p);
  }
  static MOESMITH_INLINE V multiply(const Vec& x, const Vec& w, const V& sum) {
    return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
  }
  static MOESMITH_INLINE V add(const Row* x, const Vec& w, const V& sum) {
    return multiply(of_w(x), w, sum);
  }
  static MOESMITH_INLINE V add_tail(const Row* x, const Vec& w, const V& sum, std::int64_t n) {
    return multiply(of_w_tail(x, n), w, sum);
  }
};
#endif

// out[r * ld] (+)= <rows[r], w>
template <class How, class W, int kRows>
MOESMITH_INLINE void dot_row(const Call<W>& call, std::int64_t row, const W* w, float* out) {
  constexpr std::int64_t kStep = How::kStep;
  V sums[kRows][kChains];
  const typename How::Row* x[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    x[r] = How::row(call, row + r);
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) sums[r][c] = V{};
  }
  std::int64_t i = 0;
  for (; i + kChains * kStep <= call.k; i += kChains * kStep) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      const typename How::Vec b = How::of_w(w + i + c * kStep);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r][c] = How::add(x[r] + i + c * kStep, b, sums[r][c]);
      }
    }
  }
  for (; i + kStep <= call.k; i += kStep) {
    const typename How::Vec b = How::of_w(w + i);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r][0] = How::add(x[r] + i, b, sums[r][0]);
  }
  if (const std::int64_t left = call.k - i; left > 0) {
    const typename How::Vec b = How::of_w_tail(w + i, left);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r][0] = How::add_tail(x[r] + i, b, sums[r][0], left);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const float sum = reduce((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]));
    float& at = out[(row + r) * call.ld];
    at = call.add ? at + sum : sum;
  }
}

// A row of w meets all rows of x while it is in the first cache. Whole rows, in order: cut along k
// so that x stays in the first cache too, memory gave 40 % less on Zen 4 (its prefetchers follow
// one long stream); software prefetch gave nothing.
template <class How, class W>
void dot_rows(const Call<W>& call) {
  const W* w = call.w;
  for (std::int64_t j = 0; j < call.n; ++j, w += call.w_stride) {
    std::int64_t row = 0;
    if constexpr (kMaxRows == 4) {
      for (; row + 4 <= call.num_rows; row += 4) dot_row<How, W, 4>(call, row, w, call.out + j);
    }
    for (; row + 2 <= call.num_rows; row += 2) dot_row<How, W, 2>(call, row, w, call.out + j);
    if (row < call.num_rows) dot_row<How, W, 1>(call, row, w, call.out + j);
  }
}

template <class W>
void dot(const Call<W>& call) {
#ifdef MOESMITH_GEMV_PAIRS
  if constexpr (sizeof(W) == sizeof(bf16)) {
    if (call.narrow_rows != nullptr) return dot_rows<Pairs, W>(call);
  }
#endif
  dot_rows<Widened<W>, W>(call);
}

// Rows of w are pieces of longer ones, so the processor's own prefetching sees each end too soon.
constexpr std::int64_t kBlocksAhead = 1;

// out[r] += sum over the kBlock rows of w from i on of rows[r][i] * w_i
template <class W, int kRows, int kBlock>
MOESMITH_INLINE void add_rows(const Call<W>& call, std::int64_t row, std::int64_t i) {
  V factor[kRows][kBlock];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int b = 0; b < kBlock; ++b) factor[r][b] = V{} + call.rows[row + r][i + b];
  }
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(W));
  const W* w = call.w + i * call.w_stride;
  float* out = call.out + row * call.ld;
  std::int64_t j = 0;
  for (; j + kLanes <= call.n; j += kLanes) {
    V sums[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r] = load(out + r * call.ld + j);
    if (kBlock > 1 && row == 0 && j % kLine == 0) {
#pragma GCC unroll 8
      for (int b = 0; b < kBlock; ++b) {
        __builtin_prefetch(w + (kBlocksAhead * kBlock + b) * call.w_stride + j);
      }
    }
#pragma GCC unroll 8
    for (int b = 0; b < kBlock; ++b) {
      const V at = load(w + b * call.w_stride + j);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[r] += factor[r][b] * at;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) store(out + r * call.ld + j, sums[r]);
  }
  if (j == call.n) return;
  const std::int64_t left = call.n - j;
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    V sum = load_tail(out + r * call.ld + j, left);
#pragma GCC unroll 8
    for (int b = 0; b < kBlock; ++b) {
      sum += factor[r][b] * load_tail(w + b * call.w_stride + j, left);
    }
    float lane[kLanes];
    store(lane, sum);
    std::memcpy(out + r * call.ld + j, lane, static_cast<std::size_t>(left) * sizeof(float));
  }
}

template <class W, int kBlock>
void add_block(const Call<W>& call, std::int64_t i) {
  std::int64_t row = 0;
  for (; row + 2 <= call.num_rows; row += 2) add_rows<W, 2, kBlock>(call, row, i);
  if (row < call.num_rows) add_rows<W, 1, kBlock>(call, row, i);
}

template <class W>
void sum(const Call<W>& call) {
  for (std::int64_t row = 0; row < call.num_rows && !call.add; ++row) {
    std::memset(call.out + row * call.ld, 0, static_cast<std::size_t>(call.n) * sizeof(float));
  }
  std::int64_t i = 0;
  for (; i + kSumBlock <= call.k; i += kSumBlock) add_block<W, kSumBlock>(call, i);
  for (; i < call.k; ++i) add_block<W, 1>(call, i);
}

#undef MOESMITH_INLINE

}  // namespace

const Kernels& kernels() {
  static constexpr Kernels kKernels{dot<float>, dot<bf16>, sum<float>, sum<bf16>};
  return kKernels;
}

}  // namespace moesmith::kernels::gemv::MOESMITH_GEMV_NAMESPACE
