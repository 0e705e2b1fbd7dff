// SPDX-License-Identifier: Apache-2.0
// A model's chat template: where it comes from, and a conversation rendered with it as
// transformers' apply_chat_template(tokenize=False) renders it.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "text/jinja/jinja.h"

namespace moesmith::text {

// Which template is meant. `jinja` wins over `name`.
struct ChatTemplateChoice {
  // "tokenizer_default" (or ""): the tokenizer's own, of several the one named "default". Else the
  // name of one of the tokenizer's or of a built-in one (see builtin_chat_templates).
  std::string name = "tokenizer_default";
  // The template's text, or a path to a file with it (a value without "{" and with a file there).
  std::string jinja;
};

struct ChatRequest {
  io::Json messages = io::Json::array();  // array of {"role", "content", ...}
  io::Json tools;                         // array of JSON schemas, or null
  bool add_generation_prompt = false;
  io::Json variables;  // object of further variables (chat_template_kwargs), or null
};

class ChatTemplate {
 public:
  // From the tokenizer's folder: chat_template.jinja, additional_chat_templates/*.jinja, then
  // chat_template of tokenizer_config.json (text, or a list of {"name", "template"}); special
  // tokens from tokenizer_config.json and special_tokens_map.json. Throws Error(kNotFound) when
  // there is no such template, with those there are.
  static ChatTemplate load(const std::filesystem::path& folder,
                           const ChatTemplateChoice& choice = {});
  // From its text; `special_tokens` are variables such as {"bos_token", "<s>"}.
  static ChatTemplate parse(std::string_view source,
                            std::string name,
                            std::vector<std::pair<std::string, std::string>> special_tokens = {});

  // Throws Error(kInvalidInput) with the template's name and line, as jinja::Template does.
  std::string render(const ChatRequest& request) const;

  const std::string& name() const { return template_.name(); }
  const std::string& source() const { return source_; }
  // "" when the tokenizer has none.
  std::string special_token(std::string_view role) const;

 private:
  ChatTemplate(jinja::Template parsed, std::string source) noexcept
      : template_(std::move(parsed)), source_(std::move(source)) {}

  jinja::Template template_;
  std::string source_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
};

struct BuiltinChatTemplate {
  std::string_view name;
  std::string_view source;
};
std::span<const BuiltinChatTemplate> builtin_chat_templates();

}  // namespace moesmith::text
