// SPDX-License-Identifier: Apache-2.0
// Library code never prints: it hands a line to the sink, which the command line sets. Without a
// sink lines are dropped.
#pragma once

#include <functional>
#include <string>

namespace moesmith {

enum class LogLevel { kInfo, kWarning };

using LogSink = std::function<void(LogLevel, const std::string& line)>;

// Replaces the sink; may be called at any time, from any thread.
void set_log_sink(LogSink sink);
void log(LogLevel level, const std::string& line);

}  // namespace moesmith
