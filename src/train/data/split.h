// SPDX-License-Identifier: Apache-2.0
// Hugging Face's split expressions: "train", "train[:10%]", "train[100:200]", "train[-50:]".
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace moesmith::train {

struct SplitExpression {
  struct Bound {
    bool given = false;
    double value = 0;  // rows, or per cent; negative: from the end
    bool percent = false;
  };
  std::string name;  // "train"
  bool sliced = false;
  Bound from, to;

  // The rows [first, second) of `num_rows`; per cents are rounded to the nearest row.
  std::pair<std::int64_t, std::int64_t> range(std::int64_t num_rows) const;
};

// Throws Error(kInvalidInput) for anything else.
SplitExpression parse_split(const std::string& text);

}  // namespace moesmith::train
