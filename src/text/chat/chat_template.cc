// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_template.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::text {
namespace {

namespace fs = std::filesystem;
using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

// A template's text and what errors call it.
struct Source {
  std::string text;
  std::string name;
};

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kIo, path.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<io::JsonFile> read_if_there(const fs::path& path) {
  if (!fs::is_regular_file(path)) return std::nullopt;
  return io::read_json(path.string());
}

// "chat_template" of tokenizer_config.json: one text, or a list of named ones.
void add_from_config(const io::JsonFile& config, std::map<std::string, Source>& found) {
  const auto entry = config.root().find("chat_template");
  if (!entry.has_value()) return;
  if (entry->value().is_string()) {
    found.try_emplace("default", Source{entry->as_string(), config.path + ": chat_template"});
    return;
  }
  if (!entry->value().is_array()) {
    entry->fail("got " + entry->value().describe() + ", expected a text or a list of named ones");
  }
  for (std::size_t i = 0; i < entry->size(); ++i) {
    const io::JsonRef item = entry->at(i);
    const std::string name = item.at("name").as_string();
    found.try_emplace(name, Source{item.at("template").as_string(),
                                   str(config.path, ": chat_template '", name, "'")});
  }
}

// The tokenizer's own templates; files win over tokenizer_config.json, as in transformers.
std::map<std::string, Source> templates_of(const fs::path& folder,
                                           const std::optional<io::JsonFile>& config) {
  std::map<std::string, Source> found;
  const fs::path file = folder / "chat_template.jinja";
  if (fs::is_regular_file(file)) found["default"] = {read_text(file), file.string()};
  const fs::path more = folder / "additional_chat_templates";
  if (fs::is_directory(more)) {
    for (const auto& entry : fs::directory_iterator(more)) {
      if (entry.path().extension() != ".jinja") continue;
      found[entry.path().stem().string()] = {read_text(entry.path()), entry.path().string()};
    }
  }
  if (config.has_value()) add_from_config(*config, found);
  return found;
}

void add_special_tokens(const io::JsonFile& file, SpecialTokens& tokens) {
  for (const std::string_view role : {"bos_token", "eos_token", "unk_token", "sep_token",
                                      "pad_token", "cls_token", "mask_token"}) {
    const bool known = std::any_of(tokens.begin(), tokens.end(),
                                   [&](const auto& token) { return token.first == role; });
    const auto entry = file.root().find(role);
    if (known || !entry.has_value()) continue;
    const bool is_object = entry->value().is_object();
    tokens.emplace_back(role, is_object ? entry->at("content").as_string() : entry->as_string());
  }
}

// The text of chat_template_jinja, which may be a path to it.
Source inline_source(const std::string& jinja) {
  if (jinja.find('{') != std::string::npos) return {jinja, "chat_template_jinja"};
  if (fs::is_regular_file(jinja)) return {read_text(jinja), jinja};
  throw Error(ErrorCode::kNotFound,
              "chat_template_jinja: got '" + jinja + "', expected a template or a path to one");
}

Source choose(const ChatTemplateChoice& choice,
              const fs::path& folder,
              const std::optional<io::JsonFile>& config) {
  if (!choice.jinja.empty()) return inline_source(choice.jinja);
  std::map<std::string, Source> own = templates_of(folder, config);
  const bool is_default = choice.name.empty() || choice.name == "tokenizer_default";
  const auto found = own.find(is_default ? "default" : choice.name);
  if (found != own.end()) return found->second;
  if (is_default && own.size() == 1) return own.begin()->second;
  std::string known;
  for (const auto& [name, source] : own) known += " " + name;
  for (const BuiltinChatTemplate& builtin : builtin_chat_templates()) {
    if (!is_default && builtin.name == choice.name) {
      return {std::string(builtin.source), str("chat template '", builtin.name, "'")};
    }
    known += str(" ", builtin.name);
  }
  throw Error(ErrorCode::kNotFound,
              is_default ? str(folder.string(),
                               ": the tokenizer has no chat template; set chat_template"
                               " to one of:",
                               known, ", or chat_template_jinja")
                         : str("chat_template: got '", choice.name,
                               "', expected tokenizer_default or one"
                               " of:",
                               known));
}

}  // namespace

ChatTemplate ChatTemplate::load(const fs::path& folder, const ChatTemplateChoice& choice) {
  const auto config = read_if_there(folder / "tokenizer_config.json");
  SpecialTokens tokens;
  if (config.has_value()) add_special_tokens(*config, tokens);
  if (const auto map = read_if_there(folder / "special_tokens_map.json")) {
    add_special_tokens(*map, tokens);
  }
  const Source source = choose(choice, folder, config);
  return parse(source.text, source.name, std::move(tokens));
}

ChatTemplate ChatTemplate::parse(std::string_view source,
                                 std::string name,
                                 SpecialTokens special_tokens) {
  ChatTemplate made(jinja::Template::parse(source, std::move(name)), std::string(source));
  made.special_tokens_ = std::move(special_tokens);
  return made;
}

std::string ChatTemplate::render(const ChatRequest& request) const {
  jinja::Variables variables{
      {"messages", jinja::Value::from_json(request.messages)},
      {"tools", jinja::Value::from_json(request.tools)},
      {"documents", jinja::Value()},
      {"add_generation_prompt", request.add_generation_prompt},
  };
  for (const auto& [role, token] : special_tokens_) variables.emplace_back(role, token);
  if (request.variables.is_object()) {
    const io::JsonObject& more = request.variables.as_object();
    for (std::size_t i = 0; i < more.size(); ++i) {
      variables.emplace_back(more.key(i), jinja::Value::from_json(more.value(i)));
    }
  }
  return template_.render(variables);
}

std::string ChatTemplate::special_token(std::string_view role) const {
  for (const auto& [name, token] : special_tokens_) {
    if (name == role) return token;
  }
  return "";
}

}  // namespace moesmith::text
