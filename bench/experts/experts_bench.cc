// SPDX-License-Identifier: Apache-2.0
// One experts layer at real models' sizes: forward, LoRA forward + backward (frozen weights) and
// full forward + backward, against the roof of the machine (measure.h, cost.h). One JSON line per
// case; every implementation of the table can be named. Correctness is tests/experts.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "common/json_line.h"
#include "common/memory.h"
#include "common/options.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "experts/case.h"
#include "experts/cost.h"
#include "experts/layer.h"
#include "experts/measure.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

constexpr const char* kUsage =
    "usage: experts_bench [--option value]...\n"
    "       experts_bench --cases -      one case per line of options, from the standard input\n"
    "Prints one JSON line per case.\n";

constexpr double kMib = 1.0 / (1 << 20);

void print(const JsonLine& line) {
  std::printf("%s\n", line.finish().c_str());
  std::fflush(stdout);
}

// What the layer needs must be there, with a tenth to spare.
void check_memory(const Case& c, const experts::ExpertsPlan& plan, int num_threads) {
  const std::int64_t needed = layer_bytes(c, plan, num_threads);
  const std::int64_t available = available_bytes();
  if (needed <= available - available / 10) return;
  throw Error(ErrorCode::kOutOfMemory,
              str("memory: too little, got ", human_bytes(static_cast<double>(available)),
                  ", expected ", human_bytes(static_cast<double>(needed))));
}

void measure_case(const Case& c, ThreadPool& pool) {
  set_isa(c.isa);
  const experts::ExpertsPlan plan = plan_experts(request_of(c));
  check_memory(c, plan, pool.num_threads());
  reset_peak();
  const std::int64_t base = resident_bytes();
  Layer layer(c, plan, pool.num_threads());
  const double hit = layer.experts_hit();
  const Work work{flops_of(c), bytes_of(c, hit)};
  const Measurement m = measure(c, work, pool, [&](int repeat) { layer.run(repeat, plan, pool); });
  JsonLine line = line_of(c, std::string(plan.implementation()));
  line.number("threads", static_cast<std::int64_t>(pool.num_threads()))
      .number("rows_per_expert", static_cast<double>(c.tokens * c.size.top_k) / hit, 1)
      .number("saved_mib", static_cast<double>(layer.saved_bytes()) * kMib, 1)
      .number("scratch_mib", static_cast<double>(layer.scratch_bytes()) * kMib, 1)
      .number("weights_mib", static_cast<double>(layer.weight_bytes()) * kMib, 1)
      .number("base_rss_mib", static_cast<double>(base) * kMib, 1)
      .number("peak_rss_mib", static_cast<double>(m.peak_rss) * kMib, 1);
  add_speed(line, m, work);
  line.text("cpu", processor_name());
  print(line);
}

// A case that cannot run says why, in its line, and the others go on.
void run_case(const Case& c, ThreadPool& pool) {
  try {
    measure_case(c, pool);
  } catch (const Error& error) {
    print(line_of(c, c.implementation).text("skipped", error.what()));
  }
}

std::vector<std::string> implementations(const std::string& wanted, const Case& c) {
  if (wanted != "all") return {wanted};
  std::vector<std::string> names;
  experts::ExpertsRequest request = request_of(c);
  request.implementation = "auto";
  for (const auto& verdict : experts::explain_experts(request)) names.push_back(verdict.name);
  return names;
}

void run_cases(const Options& options) {
  ThreadPool pool(static_cast<int>(options.number("threads", 0)));
  for (Case c : cases_of(options)) {
    for (const std::string& name : implementations(c.implementation, c)) {
      c.implementation = name;
      run_case(c, pool);
    }
  }
}

int run_main(const std::vector<std::string>& words) {
  if (words == std::vector<std::string>{"--help"}) {
    std::printf("%s%s", kUsage, case_options().help().c_str());
    return 0;
  }
  if (words == std::vector<std::string>{"--cases", "-"}) {
    for (std::string text; std::getline(std::cin, text);) {
      Options options = case_options();
      options.read(split_words(text));
      run_cases(options);
    }
    return 0;
  }
  Options options = case_options();
  options.read(words);
  run_cases(options);
  return 0;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  try {
    return moesmith::bench::run_main({argv + 1, argv + argc});
  } catch (const moesmith::Error& error) {
    std::fprintf(stderr, "experts_bench: error: %s\n", error.what());
    return 2;
  }
}
