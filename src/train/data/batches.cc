// SPDX-License-Identifier: Apache-2.0
#include "train/data/batches.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/text.h"
#include "moesmith/error.h"
#include "train/data/shuffle.h"

namespace moesmith::train {
namespace {

using Plan = std::vector<std::vector<std::int64_t>>;

// Streams of the random numbers: the order of the samples, and that of the packed bins.
constexpr std::uint64_t kSampleStream = 0x73616d706cu;
constexpr std::uint64_t kBinStream = 0x62696e73u;

// The first bin with room for a length, in O(log bins): a tree of the largest room below each node.
class FirstFit {
 public:
  FirstFit(std::int64_t capacity, std::size_t max_bins)
      : leaves_(std::bit_ceil(std::max<std::size_t>(max_bins, 1))), room_(2 * leaves_, capacity) {}

  std::size_t place(std::int64_t length) {
    MOESMITH_ASSERT(room_[1] >= length,
                    "there are as many bins as samples, each with room for one");
    std::size_t node = 1;
    while (node < leaves_) node = 2 * node + (room_[2 * node] >= length ? 0 : 1);
    room_[node] -= length;
    const std::size_t bin = node - leaves_;
    while (node > 1) {
      node /= 2;
      room_[node] = std::max(room_[2 * node], room_[2 * node + 1]);
    }
    return bin;
  }

 private:
  std::size_t leaves_;
  std::vector<std::int64_t> room_;
};

// First fit decreasing; samples of one length stay in the order they came.
Plan pack(const Dataset& data, std::vector<std::int64_t> order, std::int64_t capacity) {
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return data.length(a) > data.length(b); });
  FirstFit bins(capacity, order.size());
  Plan plan;
  for (const std::int64_t sample : order) {
    if (data.length(sample) > capacity) {
      throw Error(ErrorCode::kInternal,
                  str("a sample of ", data.length(sample), " tokens in bins of ", capacity));
    }
    const std::size_t bin = bins.place(data.length(sample));
    if (bin >= plan.size()) plan.resize(bin + 1);
    plan[bin].push_back(sample);
  }
  return plan;
}

}  // namespace

BatchSettings training_batches(const TrainOptions& options) {
  return {.micro_batch_size = options.micro_batch_size,
          .sequence_len = options.sequence_len,
          .packing = options.sample_packing,
          .shuffle = options.shuffle_merged_datasets,
          .seed = static_cast<std::uint64_t>(options.seed)};
}

BatchSettings evaluation_batches(const TrainOptions& options) {
  return {.micro_batch_size = options.eval_batch_size.value_or(options.micro_batch_size),
          .sequence_len = options.sequence_len,
          .packing = options.eval_sample_packing.value_or(options.sample_packing),
          .shuffle = false,
          .seed = static_cast<std::uint64_t>(options.seed)};
}

Batches::Batches(const Dataset& data, const BatchSettings& settings)
    : data_(data), settings_(settings) {}

Plan Batches::plan(std::int64_t epoch) const {
  std::vector<std::int64_t> order(static_cast<std::size_t>(data_.size()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  if (settings_.shuffle) shuffle(order, settings_.seed, kSampleStream, epoch);
  if (settings_.packing) {
    Plan bins = pack(data_, std::move(order), settings_.micro_batch_size * settings_.sequence_len);
    // Full bins come first out of the packing; the order of training must not follow the lengths.
    if (settings_.shuffle) shuffle(bins, settings_.seed, kBinStream, epoch);
    return bins;
  }
  Plan plan;
  const auto size = static_cast<std::size_t>(settings_.micro_batch_size);
  for (std::size_t begin = 0; begin < order.size(); begin += size) {
    const std::size_t end = std::min(order.size(), begin + size);
    plan.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(begin),
                      order.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return plan;
}

std::int64_t Batches::count(std::int64_t epoch) const {
  return static_cast<std::int64_t>(epoch == planned_epoch_ ? plan_.size() : plan(epoch).size());
}

model::Batch Batches::batch(std::int64_t epoch, std::int64_t index) {
  if (epoch != planned_epoch_) {
    plan_ = plan(epoch);
    planned_epoch_ = epoch;
  }
  return make_batch(data_, plan_.at(static_cast<std::size_t>(index)));
}

double Batches::fill(std::int64_t epoch) const {
  const auto capacity = static_cast<double>(count(epoch)) *
                        static_cast<double>(settings_.micro_batch_size * settings_.sequence_len);
  return capacity > 0 ? static_cast<double>(data_.num_tokens()) / capacity : 0.0;
}

model::Batch make_batch(const Dataset& data, std::span<const std::int64_t> samples) {
  constexpr std::int32_t kIgnored = -100;
  model::Batch batch;
  batch.segment_offsets.push_back(0);
  for (const std::int64_t sample : samples) {
    const auto ids = data.input_ids(sample);
    const auto trained = data.trained(sample);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      batch.input_ids.push_back(ids[i]);
      batch.position_ids.push_back(static_cast<std::int32_t>(i));
      const bool has_target = i + 1 < ids.size() && trained[i + 1] != 0;
      batch.labels.push_back(has_target ? ids[i + 1] : kIgnored);
    }
    batch.segment_offsets.push_back(static_cast<std::int64_t>(batch.input_ids.size()));
  }
  return batch;
}

}  // namespace moesmith::train
