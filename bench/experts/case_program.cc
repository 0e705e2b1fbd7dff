// SPDX-License-Identifier: Apache-2.0
#include "experts/case_program.h"

#include <cstdio>
#include <iostream>

#include "common/memory.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

constexpr double kMib = 1.0 / (1 << 20);

void print(JsonLine line) {
  line.text("cpu", processor_name());
  std::printf("%s\n", line.finish().c_str());
  std::fflush(stdout);
}

std::vector<std::string> implementations(const Case& c) {
  if (c.implementation != "all") return {c.implementation};
  std::vector<std::string> names;
  experts::ExpertsRequest request = request_of(c);
  request.implementation = "auto";
  for (const auto& verdict : experts::explain_experts(request)) names.push_back(verdict.name);
  return names;
}

void run_cases(const Options& options, const MeasureCase& measure) {
  ThreadPool pool(static_cast<int>(options.number("threads", 0)));
  for (Case c : cases_of(options)) {
    for (const std::string& name : implementations(c)) {
      c.implementation = name;
      release_memory();
      try {
        set_isa(c.isa);
        print(measure(c, pool));
      } catch (const Error& error) {  // the other cases go on
        print(line_of(c, name).text("skipped", error.what()));
      }
    }
  }
}

void run_words(const std::vector<std::string>& words, const MeasureCase& measure) {
  Options options = case_options();
  options.read(words);
  run_cases(options, measure);
}

}  // namespace

int run_program(const char* name,
                const std::vector<std::string>& words,
                const MeasureCase& measure) {
  try {
    if (words == std::vector<std::string>{"--help"}) {
      std::printf(
          "usage: %s [--option value]...\n"
          "       %s --cases -      a case per line of options, from the standard input\n%s",
          name, name, case_options().help().c_str());
    } else if (words == std::vector<std::string>{"--cases", "-"}) {
      for (std::string text; std::getline(std::cin, text);) run_words(split_words(text), measure);
    } else {
      run_words(words, measure);
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: error: %s\n", name, error.what());
    return 2;
  }
  return 0;
}

void check_memory(std::int64_t needed) {
  const std::int64_t available = available_bytes();
  if (needed <= available - available / 10) return;
  throw Error(ErrorCode::kOutOfMemory,
              str("memory: too little, got ", human_bytes(static_cast<double>(available)),
                  ", expected ", human_bytes(static_cast<double>(needed))));
}

void add_memory(JsonLine& line,
                const Case& c,
                double experts_hit,
                std::int64_t base_rss,
                std::int64_t extra_weight_bytes,
                const Measurement& m,
                const ThreadPool& pool) {
  line.number("threads", static_cast<std::int64_t>(pool.num_threads()))
      .number("rows_per_expert", static_cast<double>(c.tokens * c.size.top_k) / experts_hit, 1)
      .number("base_rss_mib", static_cast<double>(base_rss) * kMib, 1)
      .number("peak_rss_mib", static_cast<double>(m.peak_rss) * kMib, 1)
      .number("layer_mib", static_cast<double>(m.peak_rss - base_rss - extra_weight_bytes) * kMib,
              1);
}

}  // namespace moesmith::bench
