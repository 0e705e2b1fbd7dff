// SPDX-License-Identifier: Apache-2.0
#include "common/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "common/memory.h"
#include "common/peak.h"
#include "core/checked.h"

namespace moesmith::bench {
namespace {

using Read = std::uint64_t (*)(const char*, std::int64_t, int);

Read read_of(IsaLevel level) {
#if defined(__x86_64__)
  if (level >= IsaLevel::kAvx512) return avx512::read_streams;
  if (level >= IsaLevel::kAvx2) return avx2::read_streams;
#else
  static_cast<void>(level);
#endif
  return portable::read_streams;
}

std::int64_t bytes_per_thread(int threads) {
  constexpr std::int64_t kGrain = 8 * 4096;
  const std::int64_t wanted =
      std::min(std::max(4 * last_level_cache_bytes(), std::int64_t{256} << 20),
               std::max(available_bytes() / 4, std::int64_t{1} << 20));
  return ceil_div(wanted / threads, kGrain) * kGrain;
}

}  // namespace

ReadBandwidth::ReadBandwidth(IsaLevel level, ThreadPool& pool)
    : pool_(pool), read_(read_of(level)), part_(bytes_per_thread(pool.num_threads())) {
  const auto bytes = static_cast<std::size_t>(part_ * pool.num_threads());
  data_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) throw std::bad_alloc();
  ::madvise(data_, bytes, MADV_HUGEPAGE);  // refused: small pages, a little slower
  std::memset(data_, 1, bytes);
}

ReadBandwidth::~ReadBandwidth() {
  ::munmap(data_, static_cast<std::size_t>(part_ * pool_.num_threads()));
}

double ReadBandwidth::round() {
  const std::int64_t threads = pool_.num_threads();
  double best = 0;
  for (const int streams : {1, 8}) {
    const double start = now();
    pool_.run(threads, [&](std::int64_t task, int) {
      const auto read = read_(static_cast<const char*>(data_) + task * part_, part_, streams);
      sink_.fetch_xor(read, std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(part_ * threads) * 1e-9 / (now() - start));
  }
  return best;
}

double read_bandwidth_gbps(IsaLevel level, ThreadPool& pool, int rounds) {
  ReadBandwidth bandwidth(level, pool);
  double best = 0;
  for (int round = 0; round < rounds; ++round) best = std::max(best, bandwidth.round());
  return best;
}

}  // namespace moesmith::bench
