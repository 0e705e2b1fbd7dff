// SPDX-License-Identifier: Apache-2.0
// Times a case against the machine's roof of the same minute, and writes its line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/json_line.h"
#include "core/thread_pool.h"
#include "experts/case.h"

namespace moesmith::bench {

// The fields that say what is measured; the peers' lines start the same way.
JsonLine line_of(const Case& c, const std::string& implementation);

// What a case has to do at least: cost.h.
struct Work {
  double flops = 0, bytes = 0;
};

struct Measurement {
  std::vector<double> seconds = {};        // sorted
  double peak_before = 0, peak_after = 0;  // GFLOP/s
  std::vector<double> bandwidth = {};      // GB/s, sorted
  std::int64_t peak_rss = 0;               // bytes, of the layer without what measures it
  int attempts = 0;

  double peak() const;
  // The time that the roof allows: the larger of arithmetic and memory.
  double roof_seconds(const Work& work) const;
  bool memory_bound(const Work& work) const;
  // What bounds the case stayed within 10 %: the peak before and after, or, for the memory, nine
  // tenths of the rounds.
  bool steady(const Work& work) const;
};

// One run to warm up, after which peak_rss is read; then at least c.seconds and 3 repeats (1 of
// many seconds), the
// number of the repeat as argument, between two measurements of the peak, and with reads of the
// memory in between where that is the bound. Up to three times until the measurement is steady.
Measurement measure(const Case& c,
                    const Work& work,
                    ThreadPool& pool,
                    const std::function<void(int repeat)>& run);

// Times, GFLOP/s, roof and share of it.
void add_speed(JsonLine& line, const Measurement& m, const Work& work);

}  // namespace moesmith::bench
