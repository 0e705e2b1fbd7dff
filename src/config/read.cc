// SPDX-License-Identifier: Apache-2.0
// Tree to option structs: each key is honoured, known without effect, refused, or an error with the
// nearest name.
#include "config/read.h"

#include <fstream>
#include <sstream>

#include "config/rules.h"
#include "config/scalar.h"
#include "config/schema.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

// Far above any configuration; keeps a wrong path (a checkpoint shard) from being read whole.
constexpr std::streamoff kMaxFileBytes = 4 << 20;

const KnownKey* find(const std::vector<KnownKey>& keys, std::string_view name) {
  for (const KnownKey& key : keys) {
    if (key.name == name) {
      return &key;
    }
  }
  return nullptr;
}

template <class Object>
const Key<Object>* find(const std::vector<Key<Object>>& keys, std::string_view name) {
  for (const Key<Object>& key : keys) {
    if (key.name == name) {
      return &key;
    }
  }
  return nullptr;
}

// Whether a refused key's value asks for nothing. Typed first: "false" in quotes is false, "1"
// is 1.
bool is_inert(const Node& value, std::string_view inert) {
  if (value.kind == Node::Kind::kNull) {
    return true;
  }
  if (value.kind != Node::Kind::kScalar) {
    return value.items.empty();
  }
  const auto boolean = parse_bool(value.text);
  const bool written_as_number = parse_number(value.text).has_value();
  if (boolean && !*boolean && !written_as_number && inert != "true") {
    return true;
  }
  while (!inert.empty()) {
    const std::size_t comma = inert.find(',');
    const std::string_view word = inert.substr(0, comma);
    if (value.text == word || (boolean && parse_bool(word) == boolean && !written_as_number) ||
        (written_as_number && parse_number(value.text) == parse_number(word))) {
      return true;
    }
    inert = comma == std::string_view::npos ? "" : inert.substr(comma + 1);
  }
  return false;
}

[[noreturn]] void unknown(const Location& at,
                          std::string_view name,
                          const std::vector<std::string>& known) {
  const std::string meant = nearest(name, known);
  fail(at, str("unknown key ", name, meant.empty() ? "" : "; did you mean " + meant + "?"));
}

// Errors of a value begin with its key, wherever in the value they are found.
template <class Object>
void set_named(const Key<Object>& key, std::string_view path, Object& object, const Node& node) {
  try {
    key.set(object, node);
  } catch (const Error& error) {
    const std::string message = error.what();
    const std::size_t got = message.find(": got ");
    if (got == std::string::npos || message.find(": ") != got) {
      throw;  // it has a name already
    }
    throw Error(error.code(),
                message.substr(0, got) + ": " + std::string(path) + message.substr(got));
  }
}

// One notice per reason, with the names it holds for.
struct WithoutEffect {
  std::vector<std::pair<std::string_view, std::string>> by_reason;

  void add(const KnownKey& key, std::string_view path) {
    for (auto& [why, names] : by_reason) {
      if (why == key.why) {
        names += str(", ", path);
        return;
      }
    }
    by_reason.emplace_back(key.why, path);
  }

  void report(Config& config) const {
    for (const auto& [why, names] : by_reason) {
      config.notices.push_back(str("no effect here: ", names, " (", why, ")"));
    }
  }
};

// Values of `type` that Axolotl takes or took and that are no name of a prompt format here.
void refuse_type(const Node& value, const Location& at) {
  constexpr const char* kExpected = "; expected one of alpaca, chat_template, completion";
  if (value.kind == Node::Kind::kNull) {
    fail(at, str("type: empty means tokens made beforehand, which is not built", kExpected));
  }
  if (value.kind == Node::Kind::kMap) {
    fail(at, str("type: own prompt formats are not built", kExpected));
  }
  if (value.text == "sharegpt") {
    fail(value.at,
         "type: sharegpt is now type: chat_template with field_messages: conversations and "
         "message_property_mappings: {role: from, content: value}");
  }
}

train::DatasetOptions read_dataset(const Node& node, WithoutEffect& without_effect) {
  if (node.kind != Node::Kind::kMap) {
    fail(node.at, str("got ", describe(node), ", expected a mapping with path and type"));
  }
  train::DatasetOptions dataset;
  for (std::size_t i = 0; i < node.keys.size(); ++i) {
    const std::string& name = node.keys[i];
    const Node& value = node.items[i];
    if (name == "type") {
      refuse_type(value, node.key_at[i]);
    }
    if (const auto* key = find(dataset_schema(), name)) {
      if (value.kind != Node::Kind::kNull) {
        set_named(*key, name, dataset, value);
      }
    } else if (const KnownKey* inactive = find(dataset_keys_without_effect(), name)) {
      if (value.kind != Node::Kind::kNull) {
        without_effect.add(*inactive, "datasets[]." + name);
      }
    } else if (const KnownKey* refused = find(refused_dataset_keys(), name)) {
      if (!is_inert(value, refused->inert)) {
        fail(node.key_at[i], str(name, ": ", refused->why));
      }
    } else {
      unknown(node.key_at[i], name, all_dataset_names());
    }
  }
  for (const char* required : {"path", "type"}) {
    const Node* value = node.find(required);
    if (value == nullptr || value->kind == Node::Kind::kNull) {
      fail(node.at, str("this data set has no ", required));
    }
  }
  return dataset;
}

std::string_view honoured_name(std::string_view name) {
  for (const Alias& alias : aliases()) {
    if (alias.name == name) {
      return alias.key;
    }
  }
  return name;
}

std::string read_file(const std::string& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) {
    throw Error(ErrorCode::kNotFound,
                str(file, ": no such configuration file, or it cannot be read"));
  }
  const std::streamoff size = in.tellg();
  if (size < 0 || size > kMaxFileBytes) {
    throw Error(ErrorCode::kInvalidInput,
                str(file, ": not a configuration file, expected YAML text of at most 4 MiB"));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  if (size > 0 && !in.read(text.data(), size)) {
    throw Error(ErrorCode::kInvalidInput, str(file, ": cannot be read; is it a folder?"));
  }
  return text;
}

}  // namespace

std::vector<train::DatasetOptions> read_datasets(Config& config, const Node& node) {
  std::vector<train::DatasetOptions> datasets;
  WithoutEffect without_effect;
  if (node.kind == Node::Kind::kMap) {
    datasets.push_back(read_dataset(node, without_effect));
  } else if (node.kind == Node::Kind::kList) {
    for (const Node& item : node.items) {
      datasets.push_back(read_dataset(item, without_effect));
    }
  } else {
    fail(node.at,
         str("got ", describe(node), ", expected ", expected({TypeKind::kDatasets, {}, {}})));
  }
  without_effect.report(config);
  return datasets;
}

std::string dataset_yaml(const train::DatasetOptions& dataset) {
  const train::DatasetOptions defaults;
  std::string out;
  for (const auto& key : dataset_schema()) {
    const std::string value = key.show(dataset);
    if (key.name == "path" || key.name == "type" || value != key.show(defaults)) {
      out += (out.empty() ? "" : ", ") + std::string(key.name) + ": " + value;
    }
  }
  return "{" + out + "}";
}

void read_config(Config& config, const Node& root) {
  WithoutEffect without_effect;
  for (std::size_t i = 0; i < root.keys.size(); ++i) {
    const std::string& name = root.keys[i];
    const Node& value = root.items[i];
    const std::string key_name(honoured_name(name));
    if (const Key<Config>* key = find_key(key_name)) {
      if (value.kind == Node::Kind::kNull) {
        continue;
      }
      if (!config.given.emplace(key_name, root.key_at[i]).second) {
        fail(root.key_at[i], str(name, ": ", key_name, " is given too; they are the same key"));
      }
      set_named(*key, name, config, value);
    } else if (const KnownKey* inactive = find(keys_without_effect(), name)) {
      if (value.kind != Node::Kind::kNull) {
        without_effect.add(*inactive, name);
      }
    } else if (const KnownKey* refused = find(refused_keys(), name)) {
      if (!is_inert(value, refused->inert)) {
        fail(root.key_at[i], str(name, ": ", refused->why));
      }
    } else {
      unknown(root.key_at[i], name, all_names());
    }
  }
  without_effect.report(config);
}

Config parse_config(std::string_view text,
                    const std::string& source,
                    const std::vector<Override>& overrides,
                    Purpose purpose) {
  Node root = parse_yaml(text, source);
  if (root.kind == Node::Kind::kNull) {
    throw Error(ErrorCode::kInvalidInput,
                str(source, ": the file is empty, expected keys and values"));
  }
  if (root.kind != Node::Kind::kMap) {
    fail(root.at, str("got ", describe(root), ", expected keys and values"));
  }
  apply_overrides(root, overrides);
  Config config;
  config.file = source;
  read_config(config, root);
  apply_rules(config, purpose);
  return config;
}

Config load_config(const std::string& file,
                   const std::vector<Override>& overrides,
                   Purpose purpose) {
  return parse_config(read_file(file), file, overrides, purpose);
}

std::string resolved_yaml(const Config& config) {
  std::string out;
  for (const Section& section : schema()) {
    out += str("# ", section.title, "\n");
    for (const Key<Config>& key : section.keys) {
      const bool absent = key.required && !config.given.contains(std::string(key.name));
      const std::string value = absent ? "" : key.show(config);
      out += str(key.name, ":", value.empty() ? "" : " ", value, "\n");
    }
  }
  return out;
}

}  // namespace moesmith::config
