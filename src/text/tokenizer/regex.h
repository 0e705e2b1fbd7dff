// SPDX-License-Identifier: Apache-2.0
// A compiled pattern of a tokenizer.json. Compiled once, matched from any number of threads.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moesmith::text {

// Bytes [begin, end) of a text.
struct Span {
  std::size_t begin;
  std::size_t end;
};

class Regex {
 public:
  // `pattern` in Oniguruma's syntax; errors begin with `where`.
  static Regex compile(std::string_view pattern, const std::string& where);
  // Matches `text` itself; not empty.
  static Regex literal(std::string_view text, const std::string& where);

  // Leftmost matches, none overlapping, in order. `subject` is valid UTF-8.
  std::vector<Span> find_all(std::string_view subject) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace moesmith::text
