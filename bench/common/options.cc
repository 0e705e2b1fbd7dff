// SPDX-License-Identifier: Apache-2.0
#include "common/options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::bench {

Options::Options(std::vector<Option> known) : known_(std::move(known)) {
  for (const Option& option : known_) values_[option.name] = option.fallback;
}

void Options::read(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); i += 2) {
    const bool dashed = words[i].starts_with("--");
    const auto found = dashed ? values_.find(words[i].substr(2)) : values_.end();
    if (found == values_.end()) {
      throw Error(ErrorCode::kInvalidInput,
                  str("options: unknown option, got ", words[i], ", expected one of\n", help()));
    }
    if (i + 1 == words.size()) {
      throw Error(ErrorCode::kInvalidInput,
                  str("options: no value, got ", words[i], ", expected ", words[i], " VALUE"));
    }
    found->second = words[i + 1];
  }
}

const std::string& Options::text(std::string_view name) const { return values_.find(name)->second; }

std::int64_t Options::number(std::string_view name, std::int64_t least) const {
  const std::string& value = text(name);
  std::int64_t result = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (code != std::errc() || end != value.data() + value.size() || result < least) {
    throw Error(ErrorCode::kInvalidInput,
                str("--", name, ": not a size, got \"", value, "\", expected ", least, " or more"));
  }
  return result;
}

double Options::seconds(std::string_view name) const {
  const std::string& value = text(name);
  char* end = nullptr;
  const double result = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !(result > 0)) {
    throw Error(ErrorCode::kInvalidInput,
                str("--", name, ": not a time, got \"", value, "\", expected seconds above 0"));
  }
  return result;
}

std::vector<std::string> Options::list(std::string_view name) const {
  return split_words(text(name), ',');
}

std::string Options::help() const {
  std::string result;
  for (const Option& option : known_) {
    std::string line = str("  --", option.name, " ", option.fallback);
    line.resize(std::max<std::size_t>(line.size() + 1, 36), ' ');
    result += line + option.help + "\n";
  }
  return result;
}

std::vector<std::string> split_words(const std::string& line, char separator) {
  std::vector<std::string> words;
  std::istringstream stream(line);
  for (std::string word; std::getline(stream, word, separator);) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

}  // namespace moesmith::bench
