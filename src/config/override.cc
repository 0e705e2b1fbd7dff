// SPDX-License-Identifier: Apache-2.0
// Flags over the file: --lora-r 16, --lora-target-modules q_proj,k_proj, --datasets.0.path
// rows.jsonl.
#include <algorithm>
#include <memory>

#include "config/read.h"
#include "config/scalar.h"
#include "config/schema.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

bool is_list(TypeKind kind) {
  return kind == TypeKind::kTextList || kind == TypeKind::kNamesOrRegex ||
         kind == TypeKind::kIntegerList;
}

// "q_proj, k_proj" as a list. Text with blanks inside a part is one string: a prompt has commas
// too.
Node comma_list(std::string_view text, const Location& at) {
  Node list;
  list.kind = Node::Kind::kList;
  list.at = at;
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    std::string_view part = rest.substr(0, comma);
    part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
    part = part.substr(0, part.find_last_not_of(' ') + 1);
    if (part.find(' ') != std::string_view::npos) {
      return scalar_node(text, at);
    }
    list.items.push_back(scalar_node(part, at));
    if (comma == std::string_view::npos) {
      return list;
    }
    rest.remove_prefix(comma + 1);
  }
}

// Scalars are taken letter by letter; lists may be [a, b] or a,b; the rest is YAML.
Node flag_value(TypeKind kind, std::string_view text, const Location& at) {
  const bool bracketed = !text.empty() && text[0] == '[';
  if (is_list(kind) && !bracketed) {
    return text.find(',') == std::string_view::npos ? scalar_node(text, at) : comma_list(text, at);
  }
  switch (kind) {
    case TypeKind::kBool:
    case TypeKind::kInteger:
    case TypeKind::kNumber:
    case TypeKind::kText:
    case TypeKind::kChoice:
      return scalar_node(text, at);
    default:
      return parse_yaml_value(text, at);
  }
}

TypeKind kind_of(std::string_view key, bool in_dataset) {
  if (!in_dataset) {
    const Key<Config>* found = find_key(key);
    return found ? found->type.kind : TypeKind::kText;
  }
  for (const auto& found : dataset_schema()) {
    if (found.name == key) {
      return found.type.kind;
    }
  }
  return TypeKind::kText;
}

// The place in a list, which may be one past its end: then an empty mapping is added there.
Node& element(Node& list, std::string_view index_text, const Location& at) {
  if (list.kind == Node::Kind::kMap) {
    Node only = std::move(list);  // a single mapping stands for a list of one
    list = Node();
    list.items.push_back(std::move(only));
    list.at = at;
  }
  if (list.kind != Node::Kind::kList && list.kind != Node::Kind::kNull && list.items.empty()) {
    fail(at, "there is no list at this place of the file");
  }
  list.kind = Node::Kind::kList;
  const auto index = parse_integer(index_text);
  const auto size = static_cast<std::int64_t>(list.items.size());
  if (!index || *index < 0 || *index > size) {
    fail(at, str("got index \"", index_text, "\", expected one from 0 to ", size));
  }
  if (*index == size) {
    Node entry;
    entry.kind = Node::Kind::kMap;
    entry.at = at;
    list.items.push_back(std::move(entry));
  }
  return list.items[static_cast<std::size_t>(*index)];
}

}  // namespace

void apply_overrides(Node& root, const std::vector<Override>& overrides) {
  for (const Override& over : overrides) {
    const Location at{std::make_shared<const std::string>(over.flag), 0, 0};
    const std::string_view path = over.key;
    const std::size_t dot = path.find('.');
    if (dot == std::string_view::npos) {
      root.set(path, flag_value(kind_of(path, false), over.value, at));
      continue;
    }
    const std::string_view key = path.substr(0, dot);
    const std::string_view rest = path.substr(dot + 1);
    const std::size_t second = rest.find('.');
    const Key<Config>* found = find_key(key);
    if (found == nullptr || found->type.kind != TypeKind::kDatasets ||
        second == std::string_view::npos) {
      fail(at,
           "only an entry of datasets or test_datasets has parts, as --datasets.0.path rows.jsonl");
    }
    if (root.find(key) == nullptr) {
      root.set(key, scalar_node("", at));
    }
    Node& entry = element(*root.find(key), rest.substr(0, second), at);
    const std::string_view leaf = rest.substr(second + 1);
    entry.set(leaf, flag_value(kind_of(leaf, true), over.value, at));
  }
}

}  // namespace moesmith::config
