// SPDX-License-Identifier: Apache-2.0
// Philox, and Box-Muller for many counters at once in GCC's vector extension: logarithm and cosine
// by Cephes' polynomials (under 2 ulp), so that no call to the C library stands in the way.
#include "core/rng.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace moesmith {
namespace {

// Multipliers and Weyl increments from the paper's table for Philox4x32.
constexpr std::uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;

constexpr std::size_t kLanes = 4;
typedef float V __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t VI __attribute__((vector_size(kLanes * 4)));

// The argument and the results stay in memory: a vector type that the target lacks crosses no call.
struct Lanes {
  V v;
};

// Two counters side by side, a 32-bit word in each 64-bit lane; what lies above it is noise.
typedef std::uint64_t Pair __attribute__((vector_size(16)));

inline Pair times(Pair a, std::uint32_t b) {
#if defined(__x86_64__)
  return (Pair)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));  // reads the lower words alone
#else
  return (a & 0xffffffffu) * b;
#endif
}

// words[w][i] holds word w of philox(seed, stream, first + 2 i) and of the counter after it.
constexpr int kPairs = 4;  // as many chains as hide a multiplication's latency
typedef Pair Words[4][kPairs];
void philox_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, Words& c) {
  for (int i = 0; i < kPairs; ++i) {
    const auto at = first + 2 * static_cast<std::uint64_t>(i);
    c[0][i] = Pair{at, at + 1};
    c[1][i] = c[0][i] >> 32;
    c[2][i] = Pair{stream, stream};
    c[3][i] = c[2][i] >> 32;
  }
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      const Pair p0 = times(c[0][i], kMul0), p1 = times(c[2][i], kMul1);
      c[0][i] = (p1 >> 32) ^ c[1][i] ^ Pair { k0, k0 };
      c[1][i] = p1;
      c[2][i] = (p0 >> 32) ^ c[3][i] ^ Pair { k1, k1 };
      c[3][i] = p0;
    }
  }
}

// The upper 24 bits of word w of counter `first + i`.
inline float bits24(const Words& words, std::size_t w, std::size_t i) {
  return static_cast<float>(static_cast<std::int32_t>(words[w][i / 2][i % 2]) >> 8 & 0xffffff);
}

// log(x) for x in (0, 1].
inline void log_of(Lanes& x) {
  VI bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  VI exponent = (bits >> 23) - 126;
  bits = (bits & 0x007fffff) | 0x3f000000;
  V m;  // [0.5, 1)
  std::memcpy(&m, &bits, sizeof m);
  const VI small = m < 0.707106781186547524f;
  exponent += small;  // a true lane is -1
  m = (small ? m + m : m) - 1.0f;
  const V e = __builtin_convertvector(exponent, V);
  V p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const V square = m * m;
  V y = p * m * square;
  y = y - e * 2.12194440e-4f - square * 0.5f;
  x.v = m + y + e * 0.693359375f;
}

// cos(2 pi x) for x in [0, 1): the quarter that x lies in, exactly, and what is left of it.
inline void cosine_of_turn(Lanes& x) {
  const V quarters = x.v * 4.0f;
  const VI quarter = __builtin_convertvector(quarters + 0.5f, VI);
  const V a = (quarters - __builtin_convertvector(quarter, V)) * 1.57079632679489662f;
  const V square = a * a;
  V sine = square * -1.9515295891e-4f + 8.3321608736e-3f;
  sine = (sine * square - 1.6666654611e-1f) * square * a + a;
  V cosine = square * 2.443315711809948e-5f - 1.388731625493765e-3f;
  cosine = (cosine * square + 4.166664568298827e-2f) * square * square - square * 0.5f + 1.0f;
  const VI odd = (quarter & 1) == 1;
  const VI negative = ((quarter + 1) & 2) == 2;  // of the second and third quarter
  const V value = odd ? sine : cosine;
  x.v = negative ? -value : value;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t seed,
                                    std::uint64_t stream,
                                    std::uint64_t index) noexcept {
  auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  std::array<std::uint32_t, 4> c{low(index), high(index), low(stream), high(stream)};
  std::uint32_t k0 = low(seed), k1 = high(seed);
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(kMul0) * c[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(kMul1) * c[2];
    c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

float Rng::normal(std::uint64_t index) const noexcept {
  float value;
  normals(index, {&value, 1});
  return value;
}

void Rng::uniforms(std::uint64_t first, std::span<float> out) const noexcept {
  const auto singly = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) out[i] = uniform(first + i);
  };
  // Up to a counter's first word, whole blocks of counters, what is left.
  constexpr std::size_t kBlock = 8 * kPairs;
  const std::size_t head = std::min<std::size_t>(out.size(), -first & 3);
  singly(0, head);
  std::size_t at = head;
  for (; at + kBlock <= out.size(); at += kBlock) {
    Words words;
    philox_block(seed_, stream_, (first + at) >> 2, words);
    for (std::size_t i = 0; i < 2 * kPairs; ++i) {
      for (std::size_t w = 0; w < 4; ++w) out[at + 4 * i + w] = bits24(words, w, i) * 0x1p-24f;
    }
  }
  singly(at, out.size());
}

void Rng::normals(std::uint64_t first, std::span<float> out) const noexcept {
  // Long enough that a stored word has reached the cache before it is read as part of a vector.
  constexpr std::size_t kBlock = 64;
  for (std::size_t begin = 0; begin < out.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, out.size() - begin);
    alignas(64) float u[kBlock], v[kBlock];
    for (std::size_t i = 0; i < count; i += 2 * kPairs) {
      Words words;
      philox_block(seed_, stream_, first + begin + i, words);
      for (std::size_t j = 0; j < 2 * kPairs; ++j) {
        u[i + j] = (bits24(words, 0, j) + 1.0f) * 0x1p-24f;  // (0, 1]
        v[i + j] = bits24(words, 1, j) * 0x1p-24f;
      }
    }
    for (std::size_t i = 0; i < count; i += kLanes) {
      Lanes logarithm, cosine;
      std::memcpy(&logarithm.v, u + i, sizeof logarithm.v);
      std::memcpy(&cosine.v, v + i, sizeof cosine.v);
      log_of(logarithm);
      cosine_of_turn(cosine);
      std::memcpy(u + i, &logarithm.v, sizeof logarithm.v);
      std::memcpy(v + i, &cosine.v, sizeof cosine.v);
    }
    for (std::size_t i = 0; i < count; ++i) {
      out[begin + i] = std::sqrt(std::max(0.0f, -2.0f * u[i])) * v[i];
    }
  }
}

std::uint64_t Rng::below(std::uint64_t index, std::uint64_t bound) const noexcept {
  const auto words = philox(seed_, stream_, index);
  const std::uint64_t x = (static_cast<std::uint64_t>(words[0]) << 32) | words[1];
  __extension__ using uint128 = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<uint128>(x) * bound) >> 64);
}

}  // namespace moesmith
