// SPDX-License-Identifier: Apache-2.0
// A person's words as the model was trained to see them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/config.h"
#include "io/json.h"
#include "text/chat/chat_template.h"

namespace moesmith::cli {

struct Prompt {
  std::string text;
  bool add_special_tokens = true;  // false: a template has written them
};

class Conversation {
 public:
  void add(std::string_view role, std::string_view content);
  void clear() { messages_ = io::Json::array(); }
  const io::Json& messages() const { return messages_; }

 private:
  io::Json messages_ = io::Json::array();
};

class PromptFormat {
 public:
  // `name`: raw, alpaca, chat_template, or auto, which is the type of the first data set (raw
  // without any). Throws Error(kInvalidInput) for another name, Error(kNotFound) when the tokenizer
  // has no template.
  PromptFormat(const config::Config& config,
               const std::string& tokenizer_folder,
               const std::string& name);

  Prompt instruction(const std::string& text) const;
  // Needs chat_template.
  Prompt chat(const Conversation& conversation) const;

 private:
  enum class Kind { kRaw, kAlpaca, kChat };
  Kind kind_ = Kind::kRaw;
  std::optional<text::ChatTemplate> template_;
  io::Json variables_;
};

}  // namespace moesmith::cli
