// SPDX-License-Identifier: Apache-2.0
#include "train/data/dataset.h"

#include <algorithm>

#include "core/check.h"

namespace moesmith::train {

DataCounts& DataCounts::operator+=(const DataCounts& other) {
  rows += other.rows;
  samples += other.samples;
  dropped_too_long += other.dropped_too_long;
  dropped_too_short += other.dropped_too_short;
  dropped_untrained += other.dropped_untrained;
  truncated += other.truncated;
  tokens += other.tokens;
  trained_tokens += other.trained_tokens;
  return *this;
}

void Dataset::append(const Sample& sample) {
  MOESMITH_ASSERT(sample.input_ids.size() == sample.trained.size(),
                  "a mask is as long as its sample");
  ids_.insert(ids_.end(), sample.input_ids.begin(), sample.input_ids.end());
  trained_.insert(trained_.end(), sample.trained.begin(), sample.trained.end());
  offsets_.push_back(static_cast<std::int64_t>(ids_.size()));
  if (!sample.trained.empty()) {
    num_trained_ += std::count(sample.trained.begin() + 1, sample.trained.end(), std::uint8_t{1});
  }
}

void Dataset::append(const Dataset& other) {
  const std::int64_t base = offsets_.back();
  ids_.insert(ids_.end(), other.ids_.begin(), other.ids_.end());
  trained_.insert(trained_.end(), other.trained_.begin(), other.trained_.end());
  for (std::size_t i = 1; i < other.offsets_.size(); ++i)
    offsets_.push_back(base + other.offsets_[i]);
  num_trained_ += other.num_trained_;
}

std::span<const std::int32_t> Dataset::input_ids(std::int64_t i) const {
  return std::span(ids_).subspan(static_cast<std::size_t>(offsets_[static_cast<std::size_t>(i)]),
                                 static_cast<std::size_t>(length(i)));
}

std::span<const std::uint8_t> Dataset::trained(std::int64_t i) const {
  return std::span(trained_).subspan(
      static_cast<std::size_t>(offsets_[static_cast<std::size_t>(i)]),
      static_cast<std::size_t>(length(i)));
}

Dataset Dataset::select(std::span<const std::int64_t> indices) const {
  Dataset chosen;
  for (const std::int64_t i : indices) {
    const auto ids = input_ids(i);
    const auto mask = trained(i);
    chosen.append(Sample{{ids.begin(), ids.end()}, {mask.begin(), mask.end()}});
  }
  return chosen;
}

}  // namespace moesmith::train
