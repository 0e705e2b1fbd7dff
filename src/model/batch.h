// SPDX-License-Identifier: Apache-2.0
// A micro-batch: samples laid one after the other, without padding.
#pragma once

#include <cstdint>
#include <vector>

namespace moesmith::model {

constexpr std::int32_t kIgnoreLabel = -100;

struct Batch {
  std::vector<std::int32_t> input_ids;        // [N]
  std::vector<std::int32_t> position_ids;     // [N], restarts at 0 for each sample
  std::vector<std::int64_t> segment_offsets;  // [S+1]; attention never crosses a boundary
  // [N], already shifted: the token to be predicted at i, or kIgnoreLabel. The last token of a
  // segment has kIgnoreLabel. May be empty where no loss is asked for.
  std::vector<std::int32_t> labels;
};

}  // namespace moesmith::model
