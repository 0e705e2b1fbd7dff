// SPDX-License-Identifier: Apache-2.0
#include "experts/measure.h"

#include <algorithm>

#include "common/bandwidth.h"
#include "common/memory.h"
#include "common/peak.h"

namespace moesmith::bench {
namespace {

constexpr int kAttempts = 3;
// A case that has taken longer than this is not tried again: the whole table has to end.
constexpr double kLongest = 30;  // seconds
// A run that takes longer is repeated once: there is little left to warm, or to vary.
constexpr double kLong = 8;  // seconds

// The value below which a part of the sorted values lies.
double quantile(const std::vector<double>& sorted, double part) {
  return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5)];
}

// The repeats of one attempt, and a read of the memory after those that it bounds: at most a third
// of the time goes there.
class Attempt {
 public:
  Attempt(const Case& c,
          ThreadPool& pool,
          ReadBandwidth& memory,
          std::size_t least_repeats,
          Measurement& m)
      : c_(c), pool_(pool), memory_(memory), least_repeats_(least_repeats), m_(m) {}

  void time(bool memory_bound, const std::function<void(int)>& run, int& repeat) {
    const auto clock = pool_.num_threads() == 1 ? thread_seconds : now;
    const double start = now();
    double reading = 0;
    while (m_.seconds.size() < least_repeats_ ||
           (now() - start < c_.seconds && m_.seconds.size() < 1000)) {
      const double begin = clock();
      run(repeat++);
      m_.seconds.push_back(clock() - begin);
      if (!memory_bound || reading > (now() - start) / 3) continue;
      const double reading_start = now();
      m_.bandwidth.push_back(memory_.round());
      reading += now() - reading_start;
    }
  }

  void roof(double& peak) {
    peak = peak_gflops(c_.isa, c_.dtype, pool_);
    for (int i = 0; i < 5; ++i) m_.bandwidth.push_back(memory_.round());
  }

 private:
  const Case& c_;
  ThreadPool& pool_;
  ReadBandwidth& memory_;
  std::size_t least_repeats_;
  Measurement& m_;
};

}  // namespace

double Measurement::peak() const { return std::max(peak_before, peak_after); }

double Measurement::roof_seconds(const Work& work) const {
  return std::max(work.flops / peak(), work.bytes / bandwidth.back()) * 1e-9;
}

bool Measurement::memory_bound(const Work& work) const {
  return work.bytes * peak() > work.flops * bandwidth.back();
}

bool Measurement::steady(const Work& work) const {
  if (memory_bound(work)) return quantile(bandwidth, 0.1) > 0.9 * bandwidth.back();
  return std::min(peak_before, peak_after) > 0.9 * peak();
}

Measurement measure(const Case& c,
                    const Work& work,
                    ThreadPool& pool,
                    const std::function<void(int)>& run) {
  int repeat = 0;
  const double start = now();
  run(repeat++);
  const std::size_t least_repeats = now() - start > kLong ? 1 : 3;
  const std::int64_t peak_rss = peak_resident_bytes();
  ReadBandwidth memory(c.isa, pool);
  Measurement m;
  do {
    m = Measurement{.peak_rss = peak_rss, .attempts = m.attempts + 1};
    Attempt attempt(c, pool, memory, least_repeats, m);
    attempt.roof(m.peak_before);
    std::sort(m.bandwidth.begin(), m.bandwidth.end());
    attempt.time(m.memory_bound(work), run, repeat);
    attempt.roof(m.peak_after);
    std::sort(m.seconds.begin(), m.seconds.end());
    std::sort(m.bandwidth.begin(), m.bandwidth.end());
  } while (!m.steady(work) && m.attempts < kAttempts && now() - start < kLongest);
  return m;
}

JsonLine line_of(const Case& c, const std::string& implementation) {
  JsonLine line;
  line.text("bench", "experts")
      .text("implementation", implementation)
      .text("shape", c.size.name)
      .number("tokens", c.tokens)
      .text("mode", name_of(c.mode))
      .text("dtype", name_of(c.dtype))
      .text("routing", name_of(c.routing))
      .text("isa", isa_name(c.isa));
  return line;
}

void add_speed(JsonLine& line, const Measurement& m, const Work& work) {
  const double median = quantile(m.seconds, 0.5), best = m.seconds.front();
  line.number("repeats", static_cast<std::int64_t>(m.seconds.size()))
      .number("median_ms", median * 1e3, 3)
      .number("p10_ms", quantile(m.seconds, 0.1) * 1e3, 3)
      .number("p90_ms", quantile(m.seconds, 0.9) * 1e3, 3)
      .number("best_ms", best * 1e3, 3)
      .number("gflops", work.flops / median * 1e-9, 1)
      .number("gflops_best", work.flops / best * 1e-9, 1)
      .number("peak_before", m.peak_before, 1)
      .number("peak_after", m.peak_after, 1)
      .number("bandwidth_best", m.bandwidth.back(), 1)
      .number("bandwidth_median", quantile(m.bandwidth, 0.5), 1)
      .number("attempts", static_cast<std::int64_t>(m.attempts))
      .boolean("steady", m.steady(work))
      .number("bytes_mib", work.bytes / (1 << 20), 1)
      .number("gbps", work.bytes / median * 1e-9, 1)
      .text("bound", m.memory_bound(work) ? "memory" : "compute")
      .number("share", m.roof_seconds(work) / median, 3)
      .number("share_best", m.roof_seconds(work) / best, 3);
}

}  // namespace moesmith::bench
