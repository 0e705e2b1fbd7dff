// SPDX-License-Identifier: Apache-2.0
// `--key value` options of a benchmark, with defaults and a help text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moesmith::bench {

struct Option {
  const char* name;  // without the dashes
  const char* fallback;
  const char* help;
};

class Options {
 public:
  explicit Options(std::vector<Option> known);

  // Throws Error(kInvalidInput) on an option it does not know or that lacks its value. A later
  // value replaces an earlier one.
  void read(const std::vector<std::string>& words);
  const std::string& text(std::string_view name) const;
  // Throws Error(kInvalidInput) when it is not a number, or below `least`.
  std::int64_t number(std::string_view name, std::int64_t least) const;
  double seconds(std::string_view name) const;
  // The comma-separated words of the value.
  std::vector<std::string> list(std::string_view name) const;
  // One line per option.
  std::string help() const;

 private:
  std::vector<Option> known_;
  std::map<std::string, std::string, std::less<>> values_;
};

// The words of a line, split at blanks.
std::vector<std::string> split_words(const std::string& line, char separator = ' ');

}  // namespace moesmith::bench
