// SPDX-License-Identifier: Apache-2.0
// Reads tokenizer.json and what lies beside it into a Tokenizer.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/text.h"
#include "io/atomic_write.h"
#include "io/json.h"
#include "moesmith/error.h"
#include "text/tokenizer/construct.h"
#include "text/tokenizer/impl.h"
#include "text/tokenizer/tokenizer.h"

namespace moesmith::text {
namespace {

namespace fs = std::filesystem;

AddedToken read_added_token(const io::JsonRef& node, const Vocabulary& model) {
  AddedToken token;
  const std::int64_t id = node.at("id").as_integer();
  if (id < 0 || id >= Vocabulary::kMaxIds) {
    node.at("id").fail(str("got ", id, ", expected an id from 0 to ", Vocabulary::kMaxIds - 1));
  }
  token.id = static_cast<std::int32_t>(id);
  token.content = node.at("content").as_string();
  token.single_word = node.get_bool("single_word", false);
  token.lstrip = node.get_bool("lstrip", false);
  token.rstrip = node.get_bool("rstrip", false);
  token.special = node.get_bool("special", false);
  token.normalized = node.get_bool("normalized", !token.special);
  if (token.content.empty()) node.at("content").fail("the token is empty");
  const std::string_view there = model.token(token.id);
  const std::int32_t given = model.find(token.content);
  if ((given >= 0 && given != token.id) || (!there.empty() && there != token.content)) {
    node.fail(given >= 0 ? str("\"", token.content, "\" has the id ", id, ", and ", given,
                               " in model.vocab")
                         : str("the id ", id, " is given to \"", token.content, "\" and to \"",
                               there, "\" in model.vocab"));
  }
  return token;
}

void read_added_tokens(const io::JsonRef& root, Tokenizer::Impl& impl) {
  const auto list = root.find("added_tokens");
  if (!list) return;
  for (std::size_t i = 0; i < array_size(*list); ++i) {
    AddedToken token = read_added_token(list->at(i), impl.model.vocabulary());
    if (!impl.added_vocabulary.add(token.content, token.id)) {
      list->at(i).fail(str("\"", token.content, "\" or its id ", token.id, " is there already"));
    }
    impl.added.push_back(std::move(token));
  }
  std::sort(impl.added.begin(), impl.added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  impl.special.assign(static_cast<std::size_t>(impl.size()), 0);
  // Of tokens with one normalised spelling the special ones win.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : impl.added) {
      if (token.special != special) continue;
      if (special) impl.special[static_cast<std::size_t>(token.id)] = 1;
      if (!token.normalized) {
        impl.in_raw.add(token.content, token);
      } else {
        const std::string sought = impl.normalizer ? impl.normalizer(token.content) : token.content;
        impl.in_normalized.add(sought, token);
        if (sought != token.content) impl.decoded_as[token.id] = sought;
      }
    }
  }
}

// The content of a role's entry: a string, or an added token's object.
std::optional<std::string> read_content(const io::JsonRef& config, std::string_view key) {
  const auto entry = config.find(key);
  if (!entry) return std::nullopt;
  return entry->value().is_object() ? entry->at("content").as_string() : entry->as_string();
}

std::optional<std::string> read_chat_template(const io::JsonRef& config) {
  const auto entry = config.find("chat_template");
  if (!entry) return std::nullopt;
  if (!entry->value().is_array()) return entry->as_string();
  for (std::size_t i = 0; i < entry->size(); ++i) {
    const io::JsonRef named = entry->at(i);
    if (named.at("name").as_string() == "default") return named.at("template").as_string();
  }
  return std::nullopt;
}

void read_model(const io::JsonRef& root, Tokenizer::Impl& impl) {
  if (const auto node = root.find("normalizer")) impl.normalizer = make_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) {
    impl.pre_tokenizer = make_pre_tokenizer(*node);
  }
  if (const auto node = root.find("decoder")) impl.decoder = make_decoder(*node);
  impl.model = Bpe::load(root.at("model"), impl.pre_tokenizer.byte_level_last);
  read_added_tokens(root, impl);
  const auto node = root.find("post_processor");
  if (!node) return;
  impl.surround = make_post_processor(*node);
  for (const auto* ids : {&impl.surround.before, &impl.surround.after}) {
    for (const std::int32_t id : *ids) {
      if (impl.token(id).empty()) node->fail(str("the id ", id, " belongs to no token"));
    }
  }
}

void read_config(const fs::path& folder, Tokenizer::Impl& impl) {
  const fs::path config_path = folder / "tokenizer_config.json";
  if (fs::exists(config_path)) {
    const io::JsonFile file = io::read_json(config_path.string());
    const io::JsonRef config = file.root();
    const auto role = [&](std::string_view key) -> std::optional<NamedToken> {
      auto content = read_content(config, key);
      if (!content) return std::nullopt;
      const std::int32_t id = impl.find(*content);
      return NamedToken{std::move(*content), id};
    };
    impl.bos = role("bos_token");
    impl.eos = role("eos_token");
    impl.pad = role("pad_token");
    impl.unk = role("unk_token");
    impl.chat_template = read_chat_template(config);
  }
  const fs::path template_path = folder / "chat_template.jinja";
  if (fs::exists(template_path)) impl.chat_template = io::read_file(template_path.string());
}

}  // namespace

Tokenizer Tokenizer::load(const fs::path& path) {
  const fs::path file_path = fs::is_directory(path) ? path / "tokenizer.json" : path;
  auto impl = std::make_shared<Impl>();
  {
    const io::JsonFile file = io::read_json(file_path.string());
    read_model(file.root(), *impl);
  }
  read_config(file_path.parent_path(), *impl);
  Tokenizer tokenizer;
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

}  // namespace moesmith::text
