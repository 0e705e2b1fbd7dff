// SPDX-License-Identifier: Apache-2.0
// The micro-batches of each epoch: which samples, in which order, laid one after the other. A pure
// function of (data, settings, epoch), so a resumed run sees the batches it would have seen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/batch.h"
#include "train/data/dataset.h"
#include "train/options.h"

namespace moesmith::train {

struct BatchSettings {
  std::int64_t micro_batch_size = 1;
  std::int64_t sequence_len = 512;
  // true: a micro-batch is a bin of micro_batch_size * sequence_len tokens, filled by first fit
  // decreasing. false: micro_batch_size samples.
  bool packing = false;
  bool shuffle = true;  // false: rows in their order, every epoch the same
  std::uint64_t seed = 0;
};
BatchSettings training_batches(const TrainOptions& options);
BatchSettings evaluation_batches(const TrainOptions& options);

class Batches {
 public:
  // `data` must outlive this.
  Batches(const Dataset& data, const BatchSettings& settings);

  // The samples of each micro-batch of `epoch`. Every sample occurs exactly once.
  std::vector<std::vector<std::int64_t>> plan(std::int64_t epoch) const;
  std::int64_t count(std::int64_t epoch) const;
  // Micro-batch `index` of `epoch`. Keeps the last epoch's plan, so not for several threads.
  model::Batch batch(std::int64_t epoch, std::int64_t index);
  // Share of a full micro-batch's tokens that `epoch` fills, over its batches.
  double fill(std::int64_t epoch) const;

 private:
  const Dataset& data_;
  BatchSettings settings_;
  std::int64_t planned_epoch_ = -1;
  std::vector<std::vector<std::int64_t>> plan_;
};

// Samples laid one after the other, with shifted labels.
model::Batch make_batch(const Dataset& data, std::span<const std::int64_t> samples);

}  // namespace moesmith::train
