// SPDX-License-Identifier: Apache-2.0
// Prompt formats.
#include "cli/prompt.h"

#include "core/text.h"
#include "train/data/prompt.h"

namespace moesmith::cli {
void Conversation::add(std::string_view role, std::string_view content) {
  io::Json message = io::Json::object();
  message.set("role", role);
  message.set("content", content);
  messages_.push_back(std::move(message));
}

PromptFormat::PromptFormat(const config::Config& config,
                           const std::string& tokenizer_folder,
                           const std::string& name) {
  const auto& datasets = config.train.datasets;
  const train::DatasetOptions* first = datasets.empty() ? nullptr : &datasets.front();
  const bool automatic = name == "auto" && first != nullptr;
  if (name == "alpaca" || (automatic && first->type == train::PromptType::kAlpaca)) {
    kind_ = Kind::kAlpaca;
  } else if (name == "chat_template" ||
             (automatic && first->type == train::PromptType::kChatTemplate)) {
    kind_ = Kind::kChat;
  } else if (name != "raw" && name != "auto") {
    throw Error(
        ErrorCode::kInvalidInput,
        str("--format: got \"", name, "\", expected one of auto, raw, alpaca, chat_template"));
  }
  if (kind_ == Kind::kChat) {
    text::ChatTemplateChoice choice;
    choice.name =
        first && !first->chat_template.empty() ? first->chat_template : config.train.chat_template;
    choice.jinja = first && !first->chat_template_jinja.empty() ? first->chat_template_jinja
                                                                : config.train.chat_template_jinja;
    template_ = text::ChatTemplate::load(tokenizer_folder, choice);
    variables_ = io::Json::parse(config.train.chat_template_kwargs, "chat_template_kwargs");
  }
}

Prompt PromptFormat::instruction(const std::string& text) const {
  if (kind_ == Kind::kChat) {
    Conversation conversation;
    conversation.add("user", text);
    return chat(conversation);
  }
  return {kind_ == Kind::kAlpaca ? train::alpaca_prompt(text, "") : text, true};
}

Prompt PromptFormat::chat(const Conversation& conversation) const {
  text::ChatRequest request;
  request.messages = conversation.messages();
  request.add_generation_prompt = true;
  request.variables = variables_;
  return {template_->render(request), false};
}

}  // namespace moesmith::cli
