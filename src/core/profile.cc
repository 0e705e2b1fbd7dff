// SPDX-License-Identifier: Apache-2.0
#include "core/profile.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

namespace moesmith::profile {
namespace {

std::atomic<bool> enabled{false};
std::mutex lines_mutex;
thread_local Scope* innermost = nullptr;

std::map<std::string, Line>& lines() {
  static std::map<std::string, Line> all;
  return all;
}

std::int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void enable(bool on) { enabled.store(on, std::memory_order_relaxed); }

Scope::Scope(const char* name, double flops) {
  if (!enabled.load(std::memory_order_relaxed)) return;
  name_ = name;
  flops_ = flops;
  outer_ = innermost;
  innermost = this;
  start_ns_ = now_ns();
}

Scope::~Scope() {
  if (name_ == nullptr) return;
  const std::int64_t elapsed = now_ns() - start_ns_;
  innermost = outer_;
  if (outer_ != nullptr) outer_->inner_ns_ += elapsed;
  const std::lock_guard lock(lines_mutex);
  Line& line = lines()[name_];
  line.seconds += static_cast<double>(elapsed - inner_ns_) * 1e-9;
  line.flops += flops_;
  ++line.calls;
}

std::vector<Line> take() {
  const std::lock_guard lock(lines_mutex);
  std::vector<Line> result;
  for (auto& [name, line] : lines()) {
    line.name = name;
    result.push_back(line);
  }
  lines().clear();
  std::sort(result.begin(), result.end(),
            [](const Line& a, const Line& b) { return a.seconds > b.seconds; });
  return result;
}

}  // namespace moesmith::profile
