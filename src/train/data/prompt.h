// SPDX-License-Identifier: Apache-2.0
// From a row to samples: one class a prompt type.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "text/tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/options.h"

namespace moesmith::train {

class PromptFormat {
 public:
  virtual ~PromptFormat() = default;
  // Appends the row's samples, of any length. Throws Error(kInvalidInput) "<where>: <field>:
  // <what>".
  virtual void append_samples(const io::Json& row,
                              const std::string& where,
                              std::vector<Sample>& out) const = 0;
};

// Stanford Alpaca's prompt up to the answer; `input` may be empty.
std::string alpaca_prompt(const std::string& instruction, const std::string& input);
// {"instruction", "input"?, "output"}: Stanford Alpaca's prompt; the answer and the end token are
// trained.
std::unique_ptr<PromptFormat> alpaca_format(const TrainOptions& options,
                                            const text::Tokenizer& tokenizer);
// {<field>: text}: every token is trained; cut into pieces of sequence_len.
std::unique_ptr<PromptFormat> completion_format(const DatasetOptions& dataset,
                                                const TrainOptions& options,
                                                const text::Tokenizer& tokenizer);
// {<field_messages>: [{"role", "content"}, ...]}: rendered once with the chat template; the turns
// of the trained roles and their end tokens are trained.
std::unique_ptr<PromptFormat> chat_format(const DatasetOptions& dataset,
                                          const TrainOptions& options,
                                          const text::Tokenizer& tokenizer,
                                          const std::string& tokenizer_folder);

// The end token that every format needs; throws Error(kInvalidInput) when tokenizer_config.json
// names none.
std::int32_t end_token(const text::Tokenizer& tokenizer);
// The string at `key`; an absent or null one is `fallback` when that is given, else an error.
const std::string& string_field(const io::Json& row,
                                const std::string& key,
                                const std::string& where,
                                const std::string* fallback = nullptr);

}  // namespace moesmith::train
