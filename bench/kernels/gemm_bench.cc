// SPDX-License-Identifier: Apache-2.0
// Dense products at the decoder's shapes: GFLOP/s, share of the peak measured before and after,
// GB/s where memory bounds it. Correctness is tests/kernels/gemm_test.cc.
//   gemm_bench [isa] [threads] [filter]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/bandwidth.h"
#include "common/peak.h"
#include "core/cpu_features.h"
#include "core/thread_pool.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/packed_b.h"

namespace moesmith::bench {
namespace {

using kernels::gemm::Args;
using kernels::gemm::PackedB;

struct Shape {
  const char* name;
  std::int64_t m, n, k;
  bool a_transposed, b_transposed, packed;
  DType c_dtype;  // kBF16 follows the operands
};

constexpr Shape kShapes[] = {
    {"y=xW^T", 1024, 4096, 2048, false, true, false, DType::kBF16},
    {"y=xW^T packed", 1024, 4096, 2048, false, true, true, DType::kBF16},
    {"dx=dyW", 1024, 2048, 4096, false, false, false, DType::kBF16},
    {"dW=dy^Tx", 4096, 2048, 1024, true, false, false, DType::kF32},
    {"square", 2048, 2048, 2048, false, false, false, DType::kF32},
    {"lm_head", 256, 32768, 2048, false, true, false, DType::kF32},
    {"m=128", 128, 1536, 2048, false, true, false, DType::kBF16},
    {"m=64", 64, 1536, 2048, false, true, false, DType::kBF16},
    {"m=16", 16, 4096, 2048, false, true, false, DType::kBF16},
    {"m=12", 12, 4096, 2048, false, true, false, DType::kBF16},
    {"m=32", 32, 4096, 2048, false, true, false, DType::kBF16},
    {"m=4", 4, 4096, 2048, false, true, false, DType::kBF16},
    {"m=2", 2, 4096, 2048, false, true, false, DType::kBF16},
    {"m=8", 8, 4096, 2048, false, true, false, DType::kBF16},
    {"m=1", 1, 4096, 2048, false, true, false, DType::kBF16},
    {"m=1 packed", 1, 4096, 2048, false, true, true, DType::kBF16},
    {"lora xA^T", 1024, 16, 2048, false, true, false, DType::kBF16},
    {"lora tB^T", 1024, 4096, 16, false, true, false, DType::kBF16},
    {"lora dyB", 1024, 16, 4096, false, false, false, DType::kBF16},
    {"lora dA", 16, 2048, 1024, true, false, false, DType::kF32},
    {"lora dB", 4096, 16, 1024, true, false, false, DType::kF32},
    {"small y", 1024, 256, 256, false, true, false, DType::kBF16},
    {"small dx", 1024, 256, 512, false, false, false, DType::kBF16},
    {"small dW", 512, 256, 1024, true, false, false, DType::kF32},
};

// One of several sets of operands, so that a repeated call does not find its weight in the cache.
struct Set {
  std::vector<char> a, b, c;
};

void fill(std::vector<char>& bytes, std::int64_t count, DType dtype, std::uint64_t seed) {
  bytes.resize(static_cast<std::size_t>(count * dtype_size(dtype)));
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    const float value = static_cast<float>(static_cast<std::int32_t>(seed >> 32)) * 0x1p-31f;
    const bf16 narrow(value);
    const void* from = dtype == DType::kF32 ? static_cast<const void*>(&value) : &narrow;
    std::memcpy(bytes.data() + i * dtype_size(dtype), from,
                static_cast<std::size_t>(dtype_size(dtype)));
  }
}

Args args_of(const Shape& shape, DType dtype, DType c_dtype, Set& set) {
  Args args;
  args.m = shape.m, args.n = shape.n, args.k = shape.k;
  args.a = shape.a_transposed ? kernels::gemm::transposed(set.a.data(), dtype, shape.m)
                              : kernels::gemm::row_major(set.a.data(), dtype, shape.k);
  args.b = shape.b_transposed ? kernels::gemm::transposed(set.b.data(), dtype, shape.k)
                              : kernels::gemm::row_major(set.b.data(), dtype, shape.n);
  args.c = set.c.data();
  args.c_dtype = c_dtype;
  args.ldc = shape.n;
  return args;
}

void run_case(const Shape& shape, DType dtype, ThreadPool& pool) {
  const DType c_dtype = shape.c_dtype == DType::kF32 ? DType::kF32 : dtype;
  const std::int64_t b_bytes = shape.n * shape.k * dtype_size(dtype);
  const std::int64_t num_sets = std::clamp<std::int64_t>((160 << 20) / b_bytes, 2, 12);
  std::vector<Set> sets(static_cast<std::size_t>(num_sets));
  std::vector<PackedB> packed;
  for (Set& set : sets) {
    fill(set.a, shape.m * shape.k, dtype, 1);
    fill(set.b, shape.n * shape.k, dtype, 2);
    set.c.assign(static_cast<std::size_t>(shape.m * shape.n * dtype_size(c_dtype)), 0);
    if (shape.packed) {
      packed.emplace_back(args_of(shape, dtype, c_dtype, set).b, shape.k, shape.n, dtype, pool);
    }
  }
  const double before = peak_gflops(active_isa(), dtype, pool, 3);
  const double flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                       static_cast<double>(shape.k);
  std::vector<double> seconds;
  const auto clock = pool.num_threads() == 1 ? thread_seconds : now;
  const double start = now();
  for (std::size_t i = 0; seconds.size() < 6 || (now() - start < 0.4 && i < 400); ++i) {
    const std::size_t which = i % sets.size();
    Args args = args_of(shape, dtype, c_dtype, sets[which]);
    if (shape.packed) args.packed_b = &packed[which];
    const double begin = clock();
    kernels::gemm::run(args, pool);
    seconds.push_back(clock() - begin);
  }
  const double peak = std::max(before, peak_gflops(active_isa(), dtype, pool, 3));
  std::sort(seconds.begin(), seconds.end());
  const double best = flops / seconds.front() * 1e-9;
  const double median = flops / seconds[seconds.size() / 2] * 1e-9;
  const double bytes = static_cast<double>((shape.n + shape.m) * shape.k * dtype_size(dtype)) +
                       static_cast<double>(shape.m * shape.n * dtype_size(c_dtype));
  std::printf(
      "%-14s %-4s %5lld x %5lld x %5lld  %8.1f best %8.1f median  %5.1f %% of %6.1f  %6.1f GB/s\n",
      shape.name, dtype == DType::kBF16 ? "bf16" : "f32", static_cast<long long>(shape.m),
      static_cast<long long>(shape.n), static_cast<long long>(shape.k), best, median,
      100 * best / peak, peak, bytes / seconds.front() * 1e-9);
  std::printf(
      "{\"bench\":\"gemm\",\"case\":\"%s\",\"isa\":\"%s\",\"dtype\":\"%s\",\"m\":%lld,\"n\":%lld,"
      "\"k\":%lld,\"threads\":%d,\"gflops_best\":%.1f,\"gflops_median\":%.1f,\"peak_before\":%.1f,"
      "\"peak\":%.1f}\n",
      shape.name, std::string(isa_name(active_isa())).c_str(),
      dtype == DType::kBF16 ? "bf16" : "f32", static_cast<long long>(shape.m),
      static_cast<long long>(shape.n), static_cast<long long>(shape.k), pool.num_threads(), best,
      median, before, peak);
  std::fflush(stdout);
}

int run_all(int argc, char** argv) {
  const std::string filter = argc > 3 ? argv[3] : "";
  if (argc > 1) {
    for (int i = 0; i <= static_cast<int>(detected_isa()); ++i) {
      if (isa_name(static_cast<IsaLevel>(i)) == argv[1]) set_isa(static_cast<IsaLevel>(i));
    }
  }
  ThreadPool pool(argc > 2 ? std::atoi(argv[2]) : 0);
  std::printf("isa %s, %d threads, read %.1f GB/s\n", std::string(isa_name(active_isa())).c_str(),
              pool.num_threads(), read_bandwidth_gbps(active_isa(), pool));
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const Shape& shape : kShapes) {
      if (std::string(shape.name).find(filter) == std::string::npos) continue;
      run_case(shape, dtype, pool);
    }
  }
  return 0;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) { return moesmith::bench::run_all(argc, argv); }
