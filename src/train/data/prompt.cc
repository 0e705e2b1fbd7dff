// SPDX-License-Identifier: Apache-2.0
#include "train/data/prompt.h"

#include <algorithm>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

using Ids = std::vector<std::int32_t>;

class Alpaca final : public PromptFormat {
 public:
  Alpaca(bool train_on_inputs, const text::Tokenizer& tokenizer)
      : train_on_inputs_(train_on_inputs), tokenizer_(tokenizer), end_(end_token(tokenizer)) {}

  void append_samples(const io::Json& row,
                      const std::string& where,
                      std::vector<Sample>& out) const override {
    const std::string none;
    const std::string& instruction = string_field(row, "instruction", where);
    const std::string& input = string_field(row, "input", where, &none);
    const std::string& output = string_field(row, "output", where);
    Sample sample;
    sample.input_ids = tokenizer_.encode(alpaca_prompt(instruction, input), true);
    // A post-processor may close every text with the end token; the answer is still to come.
    if (!sample.input_ids.empty() && sample.input_ids.back() == end_) sample.input_ids.pop_back();
    sample.trained.assign(sample.input_ids.size(), train_on_inputs_ ? 1 : 0);
    // The two parts are tokenised on their own, so that no token spans the border.
    const Ids answer = tokenizer_.encode(output, false);
    sample.input_ids.insert(sample.input_ids.end(), answer.begin(), answer.end());
    if (answer.empty() || answer.back() != end_) sample.input_ids.push_back(end_);
    sample.trained.resize(sample.input_ids.size(), 1);
    out.push_back(std::move(sample));
  }

 private:
  bool train_on_inputs_;
  text::Tokenizer tokenizer_;
  std::int32_t end_;
};

class Completion final : public PromptFormat {
 public:
  Completion(std::string field, std::int64_t sequence_len, const text::Tokenizer& tokenizer)
      : field_(std::move(field)),
        sequence_len_(sequence_len),
        tokenizer_(tokenizer),
        end_(end_token(tokenizer)) {}

  void append_samples(const io::Json& row,
                      const std::string& where,
                      std::vector<Sample>& out) const override {
    Ids ids = tokenizer_.encode(string_field(row, field_, where), true);
    if (ids.empty()) {
      out.emplace_back();  // counted as dropped
      return;
    }
    if (ids.back() != end_) ids.push_back(end_);
    const auto step = static_cast<std::ptrdiff_t>(sequence_len_);
    for (auto begin = ids.begin(); begin != ids.end();) {
      const auto end = begin + std::min(step, ids.end() - begin);
      out.push_back(
          {{begin, end}, std::vector<std::uint8_t>(static_cast<std::size_t>(end - begin), 1)});
      begin = end;
    }
  }

 private:
  std::string field_;
  std::int64_t sequence_len_;
  text::Tokenizer tokenizer_;
  std::int32_t end_;
};

}  // namespace

std::int32_t end_token(const text::Tokenizer& tokenizer) {
  const auto& eos = tokenizer.eos();
  if (!eos || eos->id < 0) {
    throw Error(ErrorCode::kInvalidInput,
                "tokenizer_config.json: eos_token: got none, expected a token of the vocabulary (a "
                "model that never "
                "sees an end token never stops)");
  }
  return eos->id;
}

const std::string& string_field(const io::Json& row,
                                const std::string& key,
                                const std::string& where,
                                const std::string* fallback) {
  const io::Json* value = row.find(key);
  if (value == nullptr || value->is_null()) {
    if (fallback != nullptr) return *fallback;
    throw Error(ErrorCode::kInvalidInput, str(where, ": ", key, ": is missing, expected a string"));
  }
  if (!value->is_string()) {
    throw Error(ErrorCode::kInvalidInput,
                str(where, ": ", key, ": got ", value->describe(), ", expected a string"));
  }
  return value->as_string();
}

std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  if (input.empty()) {
    return str(
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n",
        instruction, "\n\n### Response:\n");
  }
  return str(
      "Below is an instruction that describes a task, paired with an input that provides further "
      "context. Write a response that appropriately completes the request.\n\n### Instruction:\n",
      instruction, "\n\n### Input:\n", input, "\n\n### Response:\n");
}

std::unique_ptr<PromptFormat> alpaca_format(const TrainOptions& options,
                                            const text::Tokenizer& tokenizer) {
  return std::make_unique<Alpaca>(options.train_on_inputs, tokenizer);
}

std::unique_ptr<PromptFormat> completion_format(const DatasetOptions& dataset,
                                                const TrainOptions& options,
                                                const text::Tokenizer& tokenizer) {
  return std::make_unique<Completion>(dataset.field, options.sequence_len, tokenizer);
}

}  // namespace moesmith::train
