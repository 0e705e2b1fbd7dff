// SPDX-License-Identifier: Apache-2.0
// What one line of the experts table measures, and the request that it makes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/options.h"
#include "core/cpu_features.h"
#include "moesmith/dtype.h"
#include "moesmith/experts.h"

namespace moesmith::bench {

struct LayerSize {
  const char* name;
  std::int64_t num_experts, top_k, hidden, inter;
};

// kLora: forward + backward with frozen weights and trained factors; kFull: with trained weights.
enum class Mode { kForward, kLora, kFull };

// kZipf: expert e with weight about 1 / (e + 1); kOne: every token chooses the same top_k experts.
enum class RoutingKind { kUniform, kZipf, kOne };

// After the name of an implementation: its weights are packed once, before what is measured.
inline constexpr const char* kPackedSuffix = "+packed";

struct Case {
  std::string implementation;
  LayerSize size;
  std::int64_t tokens;
  Mode mode;
  DType dtype;
  RoutingKind routing;
  IsaLevel isa;
  int threads;  // 0: what the process may use
  std::int64_t lora_rank;
  double seconds;     // to spend on repeats, at least
  std::int64_t bare;  // above 0: run so many times and measure nothing

  bool backward() const { return mode != Mode::kForward; }
};

const char* name_of(Mode mode);
const char* name_of(RoutingKind routing);
const char* name_of(DType dtype);

// The options that describe cases; the first seven take a list, as in "1,16".
Options case_options();
// The product of the lists, in the order of the table. Throws Error(kInvalidInput).
std::vector<Case> cases_of(const Options& options);

experts::ExpertsRequest request_of(const Case& c);
// The implementation that runs it, and the suffix.
std::string implementation_of(const experts::ExpertsPlan& plan);

}  // namespace moesmith::bench
