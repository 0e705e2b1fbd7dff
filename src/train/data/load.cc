// SPDX-License-Identifier: Apache-2.0
#include "train/data/load.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "core/text.h"
#include "moesmith/error.h"
#include "train/data/prompt.h"
#include "train/data/rows.h"
#include "train/data/shuffle.h"

namespace moesmith::train {
namespace {

constexpr std::uint64_t kSplitStream = 0x76616c6964u;

std::unique_ptr<PromptFormat> make_format(const DatasetOptions& dataset,
                                          const TrainOptions& options,
                                          const text::Tokenizer& tokenizer,
                                          const std::string& tokenizer_folder) {
  switch (dataset.type) {
    case PromptType::kAlpaca:
      return alpaca_format(options, tokenizer);
    case PromptType::kCompletion:
      return completion_format(dataset, options, tokenizer);
    case PromptType::kChatTemplate:
      return chat_format(dataset, options, tokenizer, tokenizer_folder);
  }
  throw Error(ErrorCode::kInternal, "a prompt type without a format");
}

// Cuts or drops a sample as the options say; true when it is kept.
bool admit(Sample& sample,
           const TrainOptions& options,
           const std::string& where,
           DataCounts& counts) {
  auto length = static_cast<std::int64_t>(sample.input_ids.size());
  if (length < options.min_sample_len) {
    ++counts.dropped_too_short;
    return false;
  }
  if (length > options.sequence_len) {
    switch (options.excess_length_strategy) {
      case ExcessLength::kRaise:
        throw Error(ErrorCode::kInvalidInput,
                    str(where, ": got ", length,
                        " tokens, expected at most sequence_len: ", options.sequence_len));
      case ExcessLength::kDrop:
        ++counts.dropped_too_long;
        return false;
      case ExcessLength::kTruncate:
        break;
    }
    ++counts.truncated;
    length = options.sequence_len;
    sample.input_ids.resize(static_cast<std::size_t>(length));
    sample.trained.resize(static_cast<std::size_t>(length));
  }
  const auto trained =
      std::count(sample.trained.begin() + 1, sample.trained.end(), std::uint8_t{1});
  if (trained == 0) {
    ++counts.dropped_untrained;
    return false;
  }
  ++counts.samples;
  counts.tokens += length;
  counts.trained_tokens += trained;
  return true;
}

// The rows that val_set_size takes away, and those that stay; both in their order.
struct Division {
  std::vector<std::int64_t> train, eval;
};

Division divide(std::int64_t size, double val_set_size, std::uint64_t seed) {
  const double wanted =
      val_set_size < 1 ? std::ceil(val_set_size * static_cast<double>(size)) : val_set_size;
  if (wanted >= static_cast<double>(size)) {
    throw Error(ErrorCode::kInvalidInput,
                str("val_set_size: got ", val_set_size, ", which leaves none of the ", size,
                    " samples for training"));
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  shuffle(order, seed, kSplitStream, 0);
  const auto border = order.begin() + static_cast<std::ptrdiff_t>(wanted);
  Division division{{border, order.end()}, {order.begin(), border}};
  std::sort(division.train.begin(), division.train.end());
  std::sort(division.eval.begin(), division.eval.end());
  return division;
}

}  // namespace

Dataset load_dataset(const DatasetOptions& dataset,
                     const TrainOptions& options,
                     const text::Tokenizer& tokenizer,
                     const std::string& tokenizer_folder,
                     DataCounts& counts) {
  const auto format = make_format(dataset, options, tokenizer, tokenizer_folder);
  Dataset data;
  std::vector<Sample> samples;
  visit_rows(dataset, [&](const io::Json& row, const std::string& where) {
    ++counts.rows;
    samples.clear();
    format->append_samples(row, where, samples);
    for (Sample& sample : samples) {
      if (admit(sample, options, where, counts)) data.append(sample);
    }
  });
  return data;
}

TrainingData load_training_data(const TrainOptions& options,
                                const text::Tokenizer& tokenizer,
                                const std::string& tokenizer_folder) {
  TrainingData data;
  const auto load_all = [&](const std::vector<DatasetOptions>& datasets, bool is_eval,
                            Dataset& target) {
    for (const DatasetOptions& dataset : datasets) {
      SourceCounts source{dataset.path, is_eval, {}};
      target.append(load_dataset(dataset, options, tokenizer, tokenizer_folder, source.counts));
      data.sources.push_back(std::move(source));
    }
  };
  load_all(options.datasets, false, data.train);
  load_all(options.test_datasets, true, data.eval);
  if (data.train.empty()) {
    throw Error(ErrorCode::kInvalidInput,
                "datasets: no training sample is left of all rows (too long, too short, or nothing "
                "in them is trained)");
  }
  if (!options.test_datasets.empty() && data.eval.empty()) {
    throw Error(ErrorCode::kInvalidInput, "test_datasets: no sample is left of all rows");
  }
  if (options.val_set_size > 0) {
    const Division division =
        divide(data.train.size(), options.val_set_size, static_cast<std::uint64_t>(options.seed));
    data.eval = data.train.select(division.eval);
    data.train = data.train.select(division.train);
  }
  return data;
}

}  // namespace moesmith::train
