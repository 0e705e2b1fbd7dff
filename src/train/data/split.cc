// SPDX-License-Identifier: Apache-2.0
#include "train/data/split.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  throw Error(ErrorCode::kInvalidInput,
              str("split: got \"", text,
                  "\", expected a name with an optional slice, such as train[:10%]"));
}

SplitExpression::Bound parse_bound(std::string part, const std::string& text) {
  SplitExpression::Bound bound;
  if (part.empty()) return bound;
  bound.given = true;
  bound.percent = part.back() == '%';
  if (bound.percent) part.pop_back();
  char* end = nullptr;
  bound.value = std::strtod(part.c_str(), &end);
  const bool whole = bound.value == std::floor(bound.value);
  if (part.empty() || *end != '\0' || !whole || std::abs(bound.value) > 1e15 ||
      (bound.percent && std::abs(bound.value) > 100)) {
    refuse(text);
  }
  return bound;
}

std::int64_t row_of(const SplitExpression::Bound& bound,
                    std::int64_t num_rows,
                    std::int64_t absent) {
  if (!bound.given) return absent;
  const double rows =
      bound.percent ? std::round(bound.value * static_cast<double>(num_rows) / 100) : bound.value;
  const auto row = static_cast<std::int64_t>(rows);
  return std::clamp<std::int64_t>(bound.value < 0 ? num_rows + row : row, 0, num_rows);
}

}  // namespace

std::pair<std::int64_t, std::int64_t> SplitExpression::range(std::int64_t num_rows) const {
  const std::int64_t begin = row_of(from, num_rows, 0);
  return {begin, std::max(begin, row_of(to, num_rows, num_rows))};
}

SplitExpression parse_split(const std::string& text) {
  SplitExpression split;
  const std::size_t open = text.find('[');
  split.name = text.substr(0, open);
  if (split.name.empty() || split.name.find_first_of("]+:%/ ") != std::string::npos) refuse(text);
  if (open == std::string::npos) return split;
  if (text.back() != ']') refuse(text);
  const std::string slice = text.substr(open + 1, text.size() - open - 2);
  const std::size_t colon = slice.find(':');
  if (colon == std::string::npos) refuse(text);
  split.sliced = true;
  split.from = parse_bound(slice.substr(0, colon), text);
  split.to = parse_bound(slice.substr(colon + 1), text);
  return split;
}

}  // namespace moesmith::train
