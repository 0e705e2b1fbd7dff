// SPDX-License-Identifier: Apache-2.0
#include "common/peak.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace moesmith::bench {
namespace {

using Loop = double (*)(std::int64_t);

Loop loop_of(IsaLevel level, DType dtype) {
#if defined(__x86_64__)
  if (level >= IsaLevel::kAvx512Bf16 && dtype == DType::kBF16) return avx512_bf16::bf16_loop;
  if (level >= IsaLevel::kAvx512) return avx512::f32_loop;
  if (level >= IsaLevel::kAvx2) return avx2::f32_loop;
#else
  static_cast<void>(level);
  static_cast<void>(dtype);
#endif
  return portable::f32_loop;
}

}  // namespace

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double peak_gflops(IsaLevel level, DType dtype, ThreadPool& pool, int rounds) {
  const Loop loop = loop_of(level, dtype);
  const std::int64_t iterations = 1 << 20;
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> flops(static_cast<std::size_t>(pool.num_threads()));
    const auto clock = pool.num_threads() == 1 ? thread_seconds : now;
    const double start = clock();
    pool.run(pool.num_threads(), [&](std::int64_t task, int) {
      flops[static_cast<std::size_t>(task)] = loop(iterations);
    });
    const double seconds = clock() - start;
    double total = 0;
    for (const double each : flops) total += each;
    best = std::max(best, total / seconds * 1e-9);
  }
  return best;
}

}  // namespace moesmith::bench
