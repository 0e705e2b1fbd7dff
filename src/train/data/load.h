// SPDX-License-Identifier: Apache-2.0
// From the data sets that a configuration names to samples: read, formatted, tokenised, masked,
// filtered, and split into training and evaluation rows.
#pragma once

#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/options.h"

namespace moesmith::train {

struct SourceCounts {
  std::string name;  // the data set's path
  bool is_eval = false;
  DataCounts counts;
};

struct TrainingData {
  Dataset train;
  Dataset eval;  // empty without val_set_size and test_datasets
  std::vector<SourceCounts> sources;
};

// `tokenizer_folder` has the chat template (see text::ChatTemplate). Throws Error(kInvalidInput)
// "<file>:<line>: <field>: <what>" for a row that is not as its type wants it, Error(kNotFound) for
// a path that is not there, and when no training sample is left. The split into training and
// evaluation rows depends on options.seed and the rows alone.
TrainingData load_training_data(const TrainOptions& options,
                                const text::Tokenizer& tokenizer,
                                const std::string& tokenizer_folder);

// One data set; `counts` is added to.
Dataset load_dataset(const DatasetOptions& dataset,
                     const TrainOptions& options,
                     const text::Tokenizer& tokenizer,
                     const std::string& tokenizer_folder,
                     DataCounts& counts);

}  // namespace moesmith::train
