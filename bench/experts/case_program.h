// SPDX-License-Identifier: Apache-2.0
// The main program of a benchmark over cases: options, a line per case, a reason where one cannot
// run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/json_line.h"
#include "core/thread_pool.h"
#include "experts/case.h"
#include "experts/measure.h"

namespace moesmith::bench {

// Measures one case with its isa in force. An Error that it throws becomes the line's "skipped".
using MeasureCase = std::function<JsonLine(const Case&, ThreadPool&)>;

// --help; --cases - (a case per line of options, from the standard input); or the options
// themselves. Returns the exit code.
int run_program(const char* name,
                const std::vector<std::string>& words,
                const MeasureCase& measure);

// Throws Error(kOutOfMemory) unless a tenth more than `needed` bytes are available.
void check_memory(std::int64_t needed);

// Threads, rows per expert that has any, and resident memory: before, at most, and what the layer
// takes of it when its weights are there once.
void add_memory(JsonLine& line,
                const Case& c,
                double experts_hit,
                std::int64_t base_rss,
                std::int64_t extra_weight_bytes,
                const Measurement& m,
                const ThreadPool& pool);

}  // namespace moesmith::bench
