// SPDX-License-Identifier: Apache-2.0
// The run's text as micro-batches: tokenizer, datasets, split, packing, in the loop's terms.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "text/tokenizer/tokenizer.h"
#include "train/batch_source.h"
#include "train/run_folder.h"
#include "train/trainer.h"

namespace moesmith::train {

struct RunData {
  std::unique_ptr<BatchSource> train;
  std::unique_ptr<BatchSource> eval;  // nullptr: none
  std::int64_t train_samples = 0, train_tokens = 0, trained_tokens = 0;
  std::int64_t eval_samples = 0;
  std::int64_t max_batch_tokens = 0;  // of the largest micro-batch, evaluation included
  std::string fingerprint;            // of every token and label, in order
  std::string chat_template;          // that rows were rendered with; "" when none was
};

// Throws Error for files and rows that cannot be read; counts of what was left out go to `note`.
RunData open_data(const TrainJob& job,
                  const text::Tokenizer& tokenizer,
                  const std::string& tokenizer_folder,
                  const Note& note);

}  // namespace moesmith::train
