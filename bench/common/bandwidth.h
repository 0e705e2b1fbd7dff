// SPDX-License-Identifier: Apache-2.0
// Reading memory with the widest loads of an instruction set: the roof of a product whose weights
// are read once.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/cpu_features.h"
#include "core/thread_pool.h"

namespace moesmith::bench {

// Reads, by all threads of the pool, a buffer of at least four times the last level cache and
// 256 MiB. The buffer asks for huge pages, so this is what the memory gives, not what page walks
// leave of it.
class ReadBandwidth {
 public:
  ReadBandwidth(IsaLevel level, ThreadPool& pool);
  ~ReadBandwidth();
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;

  // GB/s of one read, each thread its part in one stream or in eight: the better of the two.
  double round();

 private:
  ThreadPool& pool_;
  std::uint64_t (*read_)(const char*, std::int64_t, int);
  std::int64_t part_;  // bytes of one thread
  void* data_;
  std::atomic<std::uint64_t> sink_{0};
};

// Best of `rounds`.
double read_bandwidth_gbps(IsaLevel level, ThreadPool& pool, int rounds = 5);

// Reads [data, data + bytes) in `streams` interleaved streams; bytes is a multiple of
// streams * 256. Returns something that depends on what was read.
namespace portable {
std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams);
}
namespace avx2 {
std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams);
}
namespace avx512 {
std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams);
}

}  // namespace moesmith::bench
