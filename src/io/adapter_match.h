// SPDX-License-Identifier: Apache-2.0
// Compiled forms of an adapter configuration's patterns; internal to io.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/adapter.h"

namespace moesmith::io {

// `name` is `suffix`, or ends in it behind a dot.
bool is_dotted_suffix(std::string_view name, std::string_view suffix) noexcept;

// PEFT's check_target_module_exists.
class ModuleMatcher {
 public:
  explicit ModuleMatcher(const AdapterConfig& config);
  ~ModuleMatcher();

  // By target_modules alone, before exclusion and choice of layers.
  bool is_named(std::string_view module, bool is_output_embedding) const;
  bool matches(std::string_view module, bool is_output_embedding) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

// PEFT's get_pattern_key over the keys of rank_pattern or alpha_pattern.
class PatternKeys {
 public:
  PatternKeys(std::vector<std::string> keys, const std::string& where);
  ~PatternKeys();

  // Positions of the keys that match, in the configuration's order; the first one counts.
  std::vector<std::size_t> matching(std::string_view target) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace moesmith::io
