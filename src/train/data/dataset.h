// SPDX-License-Identifier: Apache-2.0
// Token samples with a mask of what is trained, held flat: 5 bytes per token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moesmith::train {

// One row after tokenisation. Token i is a target when trained[i] is 1; the model predicts it from
// the tokens before it, so trained[0] never counts.
struct Sample {
  std::vector<std::int32_t> input_ids;
  std::vector<std::uint8_t> trained;  // as long as input_ids
};

// What became of the rows that were read.
struct DataCounts {
  std::int64_t rows = 0;
  std::int64_t samples = 0;            // kept; completion may cut one row into several
  std::int64_t dropped_too_long = 0;   // over sequence_len
  std::int64_t dropped_too_short = 0;  // under min_sample_len, empty rows included
  std::int64_t dropped_untrained = 0;  // without any trained token
  std::int64_t truncated = 0;          // cut to sequence_len (kept)
  std::int64_t tokens = 0;             // of the kept samples
  std::int64_t trained_tokens = 0;     // of the kept samples

  DataCounts& operator+=(const DataCounts& other);
};

class Dataset {
 public:
  void append(const Sample& sample);
  // The samples of `other` behind these.
  void append(const Dataset& other);

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  bool empty() const noexcept { return size() == 0; }
  std::int64_t num_tokens() const noexcept { return offsets_.back(); }
  // Tokens that are predicted: all trained ones but a sample's first.
  std::int64_t num_trained_tokens() const noexcept { return num_trained_; }
  std::int64_t length(std::int64_t i) const {
    return offsets_[static_cast<std::size_t>(i) + 1] - offsets_[static_cast<std::size_t>(i)];
  }
  std::span<const std::int32_t> input_ids(std::int64_t i) const;  // [length(i)]
  std::span<const std::uint8_t> trained(std::int64_t i) const;    // [length(i)]
  // The samples at `indices`, in that order.
  Dataset select(std::span<const std::int64_t> indices) const;

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::uint8_t> trained_;
  std::vector<std::int64_t> offsets_{0};
  std::int64_t num_trained_ = 0;
};

}  // namespace moesmith::train
