// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <mutex>
#include <utility>

namespace moesmith {
namespace {

std::mutex sink_mutex;

LogSink& sink() {
  static LogSink current;
  return current;
}

}  // namespace

void set_log_sink(LogSink next) {
  const std::lock_guard lock(sink_mutex);
  sink() = std::move(next);
}

void log(LogLevel level, const std::string& line) {
  const std::lock_guard lock(sink_mutex);
  if (sink()) sink()(level, line);
}

}  // namespace moesmith
