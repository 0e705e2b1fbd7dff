// SPDX-License-Identifier: Apache-2.0
// One entry of the schema: name, type, help, and how the value gets into its struct member and out
// again. Tables are written with Keys<Object> and the macro MOESMITH_AT.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/tree.h"

namespace moesmith::config {

struct Range {
  std::optional<double> min;
  std::optional<double> max;
  bool open_min = false;  // min itself is outside
  bool open_max = false;
};

enum class TypeKind {
  kBool,
  kInteger,
  kNumber,
  kText,
  kChoice,
  kTextList,      // a scalar counts as a list of one
  kNamesOrRegex,  // a list of names, or one string: a regular expression
  kIntegerList,
  kIntegerMap,
  kTextMap,
  kTextListMap,
  kObject,  // any mapping, kept as JSON
  kDatasets,
};

struct Type {
  TypeKind kind = TypeKind::kText;
  Range range;
  std::vector<std::string> choices;
};

// What a message says after "expected": "an integer >= 1", "one of cosine, linear".
std::string expected(const Type& type);
// The reference page's column: "integer >= 1".
std::string type_label(const Type& type);
// The JSON schema of a value, as JSON text.
std::string json_schema(const Type& type);

template <class Object>
struct Key {
  std::string_view name;
  Type type;
  std::string_view help;
  // Fills the member from a node that is not null; throws as tree.h's fail does.
  std::function<void(Object&, const Node&)> set;
  // YAML in one line, "" when the member has no value.
  std::function<std::string(const Object&)> show;
  bool required = false;  // by some command; its default means nothing
};

template <class Object>
Key<Object> required(Key<Object> key) {
  key.required = true;
  return key;
}

template <class Object, class T>
using Ref = T& (*)(Object&);

// The member of an option struct that a key fills, as a function.
#define MOESMITH_AT(Object, member) \
  [](Object & object) -> auto& { return object.member; }

// Index in type.choices; booleans match "true"/"false" and "no" however they are spelt.
std::size_t read_choice(const Node& node, const Type& type);

template <class Object>
struct Keys {
  using Pairs = std::vector<std::pair<std::string, std::int64_t>>;
  using TextPairs = std::vector<std::pair<std::string, std::string>>;
  template <class T>
  using To = Ref<Object, T>;
  using View = std::string_view;

  static Key<Object> flag(View name, To<bool> to, View help);
  static Key<Object> flag(View name, To<std::optional<bool>> to, View help);
  static Key<Object> integer(View name, To<std::int64_t> to, Range range, View help);
  static Key<Object> integer(View name, To<std::optional<std::int64_t>> to, Range range, View help);
  static Key<Object> number(View name, To<double> to, Range range, View help);
  static Key<Object> number(View name, To<std::optional<double>> to, Range range, View help);
  static Key<Object> text(View name, To<std::string> to, View help);
  static Key<Object> one_of(View name,
                            To<std::string> to,
                            std::vector<std::string> choices,
                            View help);
  static Key<Object> list(View name, To<std::vector<std::string>> to, View help);
  static Key<Object> names_or_regex(View name,
                                    To<std::vector<std::string>> names,
                                    To<std::string> regex,
                                    View help);
  static Key<Object> integers(View name,
                              To<std::optional<std::vector<std::int64_t>>> to,
                              View help);
  static Key<Object> integer_map(View name, To<Pairs> to, Range range, View help);
  static Key<Object> text_map(View name, To<std::map<std::string, std::string>> to, View help);
  static Key<Object> text_map(View name, To<TextPairs> to, View help);
  static Key<Object> text_list_map(View name,
                                   To<std::map<std::string, std::vector<std::string>>> to,
                                   View help);
  static Key<Object> object(View name, To<std::string> to, View help);

  // E is an enumeration. Several names may stand for one value; the first is the one shown.
  template <class E>
  static Key<Object> choice(View name,
                            To<E> to,
                            std::vector<std::pair<View, E>> values,
                            View help) {
    return choice_of<E, E>(name, to, std::move(values), help);
  }
  template <class E>
  static Key<Object> choice(View name,
                            To<std::optional<E>> to,
                            std::vector<std::pair<View, E>> values,
                            View help) {
    return choice_of<E, std::optional<E>>(name, to, std::move(values), help);
  }

 private:
  template <class E, class Member>
  static Key<Object> choice_of(View name,
                               To<Member> to,
                               std::vector<std::pair<View, E>> values,
                               View help) {
    Type type{TypeKind::kChoice, {}, {}};
    for (const auto& [word, value] : values) {
      type.choices.emplace_back(word);
    }
    auto set = [to, type, values](Object& object, const Node& node) {
      to(object) = values[read_choice(node, type)].second;
    };
    auto show = [to, values](const Object& object) {
      const Member& member = to(const_cast<Object&>(object));
      for (const auto& [word, value] : values) {
        if (member == value) {
          return std::string(word);
        }
      }
      return std::string();
    };
    return {name, type, help, set, show, false};
  }
};

}  // namespace moesmith::config
