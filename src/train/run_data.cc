// SPDX-License-Identifier: Apache-2.0
#include "train/run_data.h"

#include <algorithm>
#include <utility>

#include "core/text.h"
#include "text/chat/chat_template.h"
#include "train/data/batches.h"
#include "train/data/load.h"
#include "train/trainer_state.h"

namespace moesmith::train {
namespace {

class DatasetBatches : public BatchSource {
 public:
  DatasetBatches(std::shared_ptr<const TrainingData> owner,
                 const Dataset& data,
                 const BatchSettings& settings)
      : owner_(std::move(owner)), batches_(data, settings) {}
  std::int64_t batches_in_epoch(std::int64_t epoch) override { return batches_.count(epoch); }
  model::Batch batch(std::int64_t epoch, std::int64_t index) override {
    return batches_.batch(epoch, index);
  }

 private:
  std::shared_ptr<const TrainingData> owner_;
  Batches batches_;
};

std::int64_t largest_batch(const Dataset& data, const BatchSettings& settings) {
  if (settings.packing) return settings.micro_batch_size * settings.sequence_len;
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) longest = std::max(longest, data.length(i));
  return settings.micro_batch_size * longest;
}

std::string fingerprint(const Dataset& data) {
  std::int64_t hash = data.size();
  const auto add = [&](const void* bytes, std::size_t count) {
    const std::int64_t pair[2] = {hash, content_hash(bytes, count)};
    hash = content_hash(pair, sizeof pair);
  };
  for (std::int64_t i = 0; i < data.size(); ++i) {
    add(data.input_ids(i).data(), data.input_ids(i).size_bytes());
    add(data.trained(i).data(), data.trained(i).size_bytes());
  }
  return std::to_string(hash);
}

std::string counts_text(const SourceCounts& source) {
  const DataCounts& c = source.counts;
  std::string text =
      str(source.name, source.is_eval ? " (evaluation): " : ": ", c.rows, " rows, ", c.samples,
          " samples, ", c.tokens, " tokens, ", c.trained_tokens, " of them trained");
  const auto add = [&](std::int64_t count, const char* what) {
    if (count > 0) text += str("; ", count, " ", what);
  };
  add(c.dropped_too_long, "dropped: longer than sequence_len");
  add(c.dropped_too_short, "dropped: shorter than min_sample_len");
  add(c.dropped_untrained, "dropped: no trained token");
  add(c.truncated, "cut to sequence_len");
  return text;
}

std::string used_template(const TrainOptions& options, const std::string& folder) {
  for (const DatasetOptions& dataset : options.datasets) {
    if (dataset.type != PromptType::kChatTemplate) continue;
    const bool own = !dataset.chat_template.empty() || !dataset.chat_template_jinja.empty();
    const text::ChatTemplateChoice choice{
        own ? dataset.chat_template : options.chat_template,
        own ? dataset.chat_template_jinja : options.chat_template_jinja};
    return text::ChatTemplate::load(folder, choice).source();
  }
  return "";
}

}  // namespace

RunData open_data(const TrainJob& job,
                  const text::Tokenizer& tokenizer,
                  const std::string& tokenizer_folder,
                  const Note& note) {
  const auto data = std::make_shared<const TrainingData>(
      load_training_data(job.train, tokenizer, tokenizer_folder));
  for (const SourceCounts& source : data->sources) note(counts_text(source));
  RunData run;
  const BatchSettings settings = training_batches(job.train);
  run.train = std::make_unique<DatasetBatches>(data, data->train, settings);
  run.max_batch_tokens = largest_batch(data->train, settings);
  if (!data->eval.empty()) {
    const BatchSettings eval_settings = evaluation_batches(job.train);
    run.eval = std::make_unique<DatasetBatches>(data, data->eval, eval_settings);
    run.max_batch_tokens = std::max(run.max_batch_tokens, largest_batch(data->eval, eval_settings));
  }
  run.train_samples = data->train.size();
  run.train_tokens = data->train.num_tokens();
  run.trained_tokens = data->train.num_trained_tokens();
  run.eval_samples = data->eval.size();
  run.fingerprint = fingerprint(data->train);
  run.chat_template = used_template(job.train, tokenizer_folder);
  return run;
}

}  // namespace moesmith::train
