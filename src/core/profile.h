// SPDX-License-Identifier: Apache-2.0
// Where the time of a step goes: named scopes, each charged with the time that none of the scopes
// within it took. Off, a scope costs one load and one branch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moesmith::profile {

void enable(bool on);

// One per thread at a time may be open at each depth; times of all threads are added.
class Scope {
 public:
  // `name` must outlive the profile: a literal. `flops`: floating-point operations done within.
  explicit Scope(const char* name, double flops = 0);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  const char* name_ = nullptr;
  double flops_ = 0;
  std::int64_t start_ns_ = 0;
  std::int64_t inner_ns_ = 0;
  Scope* outer_ = nullptr;
};

struct Line {
  std::string name;
  double seconds = 0;
  double flops = 0;
  std::int64_t calls = 0;
};

// What was measured since the last call, the most expensive first; starts anew.
std::vector<Line> take();

}  // namespace moesmith::profile
