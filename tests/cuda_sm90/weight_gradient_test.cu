// SPDX-License-Identifier: Apache-2.0
// Gradients of whole weights on the Hopper kernels against sums in double on the device, element by
// element: every tile, both gathered sides, bf16 and f32, overwritten and accumulated, empty
// experts and every tail of rows. What must not be read is NaN, outputs are poisoned between guard
// bands, a second run gives the same bits. Without an sm_90 device: skipped (exit code 77).
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "hopper.h"
#include "kernels/cuda/sm90/weight_gradient.h"
#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {
namespace {

int failures = 0;

void check_cuda(cudaError_t error, int line) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "line %d: %s\n", line, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK_CUDA(call) check_cuda((call), __LINE__)

struct Case {
  const char* name;
  std::vector<int> rows;  // of each expert
  int tokens, m, n;
  bool left_gathered, interleaved, out_f32, accumulate;
  TileChoice tile;
};

template <class T>
__device__ double as_double(T value) {
  return static_cast<double>(static_cast<float>(value));
}

struct Operands {
  const __nv_bfloat16 *left, *right;
  const int *row_token, *offsets;
  int m, n;
  bool left_gathered, interleaved;
};

// Compares every element; `first` gets the first one that is off, `count` how many.
template <class T>
__global__ void compare(Operands o,
                        const T* got,
                        const T* before,
                        std::int64_t begin,
                        std::int64_t total,
                        double rounding,
                        unsigned long long* first,
                        unsigned long long* count) {
  const std::int64_t i = begin + blockIdx.x * 256ll + threadIdx.x;
  if (i >= total) return;
  const std::int64_t per_expert = static_cast<std::int64_t>(o.m) * o.n, e = i / per_expert;
  const std::int64_t at = i - e * per_expert, column = at % o.n;
  std::int64_t m = at / o.n;
  if (o.interleaved) m = m / 2 + (m % 2) * (o.m / 2);
  double sum = before != nullptr ? as_double(before[i]) : 0.0, size = fabs(sum);
  for (std::int64_t row = o.offsets[e]; row < o.offsets[e + 1]; ++row) {
    const std::int64_t token = o.row_token[row];
    const double product = as_double(o.left[(o.left_gathered ? token : row) * o.m + m]) *
                           as_double(o.right[(o.left_gathered ? row : token) * o.n + column]);
    sum += product, size += fabs(product);
  }
  const double off = fabs(as_double(got[i]) - sum);
  if (off <= rounding * fabs(sum) + 3e-6 * size) return;
  atomicMin(first, static_cast<unsigned long long>(i));
  atomicAdd(count, 1ull);
}

class Device {
 public:
  ~Device() {
    for (void* p : all_) cudaFree(p);
  }
  template <class T>
  T* take(std::int64_t n, int fill) {
    void* p = nullptr;
    CHECK_CUDA(cudaMalloc(&p, static_cast<std::size_t>(n + 64) * sizeof(T)));
    CHECK_CUDA(cudaMemset(p, fill, static_cast<std::size_t>(n + 64) * sizeof(T)));
    all_.push_back(p);
    return static_cast<T*>(p);
  }
  template <class T>
  T* copy(const std::vector<T>& from, int fill = 0xff) {
    T* p = take<T>(static_cast<std::int64_t>(from.size()), fill);
    CHECK_CUDA(cudaMemcpy(p, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
  }

 private:
  std::vector<void*> all_;
};

// Uniform in [-1, 1): a generator of the standard library would take most of the test's time.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  template <class T>
  std::vector<T> values(std::int64_t n) {
    std::vector<T> out(n);
    for (T& value : out) {
      value = static_cast<T>(static_cast<float>(bits()) * (2.0f / 2147483648.0f) - 1.0f);
    }
    return out;
  }

 private:
  std::uint64_t state_;
};

template <class T>
bool same(const T* a, const T* b, std::int64_t n) {
  std::vector<T> x(n), y(n);
  CHECK_CUDA(cudaMemcpy(x.data(), a, n * sizeof(T), cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaMemcpy(y.data(), b, n * sizeof(T), cudaMemcpyDeviceToHost));
  return std::memcmp(x.data(), y.data(), n * sizeof(T)) == 0;
}

void fail(const Case& c, const char* what) {
  ++failures;
  std::printf("FAIL %s m %d n %d %s-gathered %s%s%s cluster %d: %s\n", c.name, c.m, c.n,
              c.left_gathered ? "left" : "right", c.out_f32 ? "f32" : "bf16",
              c.accumulate ? " accumulated" : "", c.interleaved ? " interleaved" : "",
              c.tile.cluster, what);
}

template <class T>
void run_case(const Case& c) {
  static unsigned seed = 0;
  Random random(++seed);
  Device device;
  std::vector<int> offsets{0}, row_token;
  for (int rows : c.rows) {
    for (int i = 0; i < rows; ++i) {
      // The last tokens belong to nobody: what they hold must not be read.
      row_token.push_back(static_cast<int>(random.bits() % static_cast<unsigned>(c.tokens - 3)));
    }
    offsets.push_back(static_cast<int>(row_token.size()));
  }
  const std::int64_t num_rows = offsets.back(), experts = static_cast<std::int64_t>(c.rows.size());
  Rows rows;
  rows.num_experts = experts, rows.num_tokens = c.tokens, rows.top_k = 1;
  rows.max_rows = num_rows > 0 ? num_rows + 37 : 0;
  const int gathered = c.left_gathered ? c.m : c.n, contiguous = c.left_gathered ? c.n : c.m;
  auto by_token = random.values<__nv_bfloat16>(static_cast<std::int64_t>(c.tokens) * gathered);
  const auto nan = __float2bfloat16(__builtin_nanf(""));
  for (std::int64_t i = static_cast<std::int64_t>(c.tokens - 3) * gathered;
       i < static_cast<std::int64_t>(by_token.size()); ++i) {
    by_token[i] = nan;
  }
  auto by_row = random.values<__nv_bfloat16>(rows.max_rows * contiguous);
  for (std::int64_t i = num_rows * contiguous; i < rows.max_rows * contiguous; ++i) by_row[i] = nan;
  rows.offsets = device.copy(offsets);
  rows.row_token = device.copy(row_token);
  const auto *tokens_on = device.copy(by_token), *rows_on = device.copy(by_row);
  void* tiles = device.take<char>(tile_bytes(rows.max_rows, experts), 0xff);
  rows.tiles = tiles;

  constexpr std::int64_t kGuard = 64;
  const std::int64_t total = experts * c.m * c.n;
  T* buffer[2];
  for (T*& one : buffer) one = device.take<T>(total + 2 * kGuard, 0xff);
  T* before = nullptr;
  if (c.accumulate) {
    before = device.copy(random.values<T>(total));
    for (T* one : buffer) {
      CHECK_CUDA(cudaMemcpy(one + kGuard, before, total * sizeof(T), cudaMemcpyDeviceToDevice));
    }
  }
  cudaStream_t stream;
  CHECK_CUDA(cudaStreamCreate(&stream));
  if (rows.max_rows > 0) build_tiles(rows, tiles, stream);
  for (T* one : buffer) {
    weight_gradient({.rows = rows,
                     .m = c.m,
                     .n = c.n,
                     .left = c.left_gathered ? tokens_on : rows_on,
                     .right = c.left_gathered ? rows_on : tokens_on,
                     .left_gathered = c.left_gathered,
                     .interleaved = c.interleaved,
                     .out = one + kGuard,
                     .out_f32 = c.out_f32,
                     .accumulate = c.accumulate,
                     .tile = c.tile},
                    stream);
  }
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_CUDA(cudaStreamDestroy(stream));

  auto* found = device.copy(std::vector<unsigned long long>{~0ull, 0});
  const Operands operands{c.left_gathered ? tokens_on : rows_on,
                          c.left_gathered ? rows_on : tokens_on,
                          rows.row_token,
                          rows.offsets,
                          c.m,
                          c.n,
                          c.left_gathered,
                          c.interleaved};
  constexpr std::int64_t kPart = 1ll << 30;
  for (std::int64_t begin = 0; begin < total; begin += kPart) {
    compare<T><<<static_cast<unsigned>((std::min(kPart, total - begin) + 255) / 256), 256>>>(
        operands, buffer[0] + kGuard, before, begin, total, c.out_f32 ? 1.2e-7 : 1.01 / 256.0,
        found, found + 1);
  }
  CHECK_CUDA(cudaGetLastError());
  unsigned long long result[2];
  CHECK_CUDA(cudaMemcpy(result, found, 16, cudaMemcpyDeviceToHost));
  if (result[1] > 0) {
    char text[120];
    std::snprintf(text, sizeof text, "%llu elements are off, the first one is %llu of %lld",
                  result[1], result[0], static_cast<long long>(total));
    fail(c, text);
  }
  const std::vector<std::uint8_t> poison(kGuard * sizeof(T), 0xff);
  std::vector<std::uint8_t> band(kGuard * sizeof(T));
  for (const T* at : {buffer[0], buffer[0] + kGuard + total}) {
    CHECK_CUDA(cudaMemcpy(band.data(), at, band.size(), cudaMemcpyDeviceToHost));
    if (band != poison) fail(c, "a guard band was written");
  }
  if (total < (1 << 28) && !same(buffer[0], buffer[1], total + 2 * kGuard)) {
    fail(c, "a second run gives other bits");
  }
}

void run_case_of(const Case& c) { c.out_f32 ? run_case<float>(c) : run_case<__nv_bfloat16>(c); }

void check(bool holds, const char* what) {
  if (!holds) ++failures, std::printf("FAIL %s\n", what);
}

int run_all(bool small) {
  check(choose_weight_gradient_tile(1536, 2048, false).cluster == 2, "8 tiles of n: no cluster");
  check(choose_weight_gradient_tile(512, 768, false).cluster == 1, "3 tiles of n: a cluster");
  check(choose_weight_gradient_tile(2880, 2880, true).cluster == 2, "23 tiles of m: no cluster");
  if (failures > 0) return 1;
  if (!has_hopper()) return kSkipped;
  const std::vector<int> tails{0, 1, 7, 15, 16, 17, 63, 64, 65, 0, 127, 128, 200, 513, 48, 0};
  const std::vector<int> few{0, 70, 17, 0, 200, 64};
  int cases = 0;
  for (int variant = 0; variant < 16; ++variant) {
    const bool left = variant & 1, f32 = variant & 2, accumulate = variant & 4;
    const TileChoice tile{0, variant & 8 ? 2 : 1, 0};
    const auto run = [&](const char* name, const std::vector<int>& rows, int m, int n,
                         bool interleaved = false) {
      run_case_of({name, rows, 211, m, n, left, interleaved, f32, accumulate, tile});
      ++cases;
    };
    if (small) {
      run("small", {0, 70, 17}, 136, 264);
      continue;
    }
    run("odd sizes", few, 264, 200);
    run("odd sizes", few, 200, 264);
    run("odd tiles", few, 328, 600);
    run("tails", tails, 1024, 768);
    run("smallest", tails, 8, 8);
    run("wide", few, 128, 1544);
    run("no rows", {0, 0, 0}, 136, 64);
    if (!left) run("interleaved", few, 272, 320, true);
  }
  if (!small) {
    // More than 2^31 elements; the last expert has rows.
    std::vector<int> rows(34, 0);
    rows.front() = 5, rows.back() = 70;
    for (bool left : {false, true}) {
      run_case_of({"large", rows, 100, 8192, 8192, left, false, false, false, {}});
      ++cases;
    }
  }
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures > 0 ? 1 : 0;
}

}  // namespace
}  // namespace moesmith::kernels::sm90

int main(int argc, char**) {
  try {
    return moesmith::kernels::sm90::run_all(argc > 1);
  } catch (const moesmith::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
