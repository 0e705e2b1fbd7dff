// SPDX-License-Identifier: Apache-2.0
// Where the loop gets its micro-batches: a pure function of (epoch, index), so that a resumed run
// finds its place by counting.
#pragma once

#include <cstdint>

#include "model/batch.h"

namespace moesmith::train {

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual std::int64_t batches_in_epoch(std::int64_t epoch) = 0;
  virtual model::Batch batch(std::int64_t epoch, std::int64_t index) = 0;
};

}  // namespace moesmith::train
