// SPDX-License-Identifier: Apache-2.0
// The processor's roof, measured: multiply-adds on registers alone.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::bench {

// Best of `rounds` of about 10 ms on all threads of the pool, in GFLOP/s. kBF16 below avx512_bf16
// gives the f32 roof: that is what such a machine multiplies bf16 with.
double peak_gflops(IsaLevel level, DType dtype, ThreadPool& pool, int rounds = 5);

// Seconds on a steady clock.
double now();
// Seconds this thread has run: what a one-thread case is timed with, so that other work on the
// machine counts less.
double thread_seconds();

// Loops of independent multiply-adds; each returns the number of FLOPs of `iterations` rounds.
namespace portable {
double f32_loop(std::int64_t iterations);
}
namespace avx2 {
double f32_loop(std::int64_t iterations);
}
namespace avx512 {
double f32_loop(std::int64_t iterations);
}
namespace avx512_bf16 {
double bf16_loop(std::int64_t iterations);
}

}  // namespace moesmith::bench
