// SPDX-License-Identifier: Apache-2.0
// Reading and showing each type of value; the builders of schema entries.
#include "config/key.h"

#include "config/config.h"
#include "config/json.h"
#include "config/scalar.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

[[noreturn]] void wrong(const Node& node, const Type& type) {
  std::string text = str("got ", describe(node), ", expected ", expected(type));
  if (type.kind == TypeKind::kChoice && node.kind == Node::Kind::kScalar) {
    if (const std::string meant = nearest(node.text, type.choices); !meant.empty()) {
      text += str("; did you mean ", meant, "?");
    }
  }
  fail(node.at, text);
}

bool in_range(double value, const Range& range) {
  const bool above = !range.min || (range.open_min ? value > *range.min : value >= *range.min);
  const bool below = !range.max || (range.open_max ? value < *range.max : value <= *range.max);
  return above && below;
}

const std::string& scalar(const Node& node, const Type& type) {
  if (node.kind != Node::Kind::kScalar) {
    wrong(node, type);
  }
  return node.text;
}

void read(bool& out, const Node& node, const Type& type) {
  const auto value = parse_bool(scalar(node, type));
  out = value ? *value : (wrong(node, type), false);
}

void read(std::int64_t& out, const Node& node, const Type& type) {
  const auto value = parse_integer(scalar(node, type));
  if (!value || !in_range(static_cast<double>(*value), type.range)) {
    wrong(node, type);
  }
  out = *value;
}

void read(double& out, const Node& node, const Type& type) {
  const auto value = parse_number(scalar(node, type));
  if (!value || !in_range(*value, type.range)) {
    wrong(node, type);
  }
  out = *value;
}

void read(std::string& out, const Node& node, const Type& type) {
  if (type.kind == TypeKind::kChoice) {
    out = type.choices[read_choice(node, type)];
  } else if (type.kind == TypeKind::kObject) {
    if (node.kind != Node::Kind::kMap) {
      wrong(node, type);
    }
    out = to_json(node);
  } else {
    out = scalar(node, type);
  }
}

template <class T>
void read_element(T& out, const Node& node, const Type& list_type) {
  if (node.kind != Node::Kind::kScalar) {
    wrong(node, list_type);
  }
  const bool integer = std::is_same_v<T, std::int64_t>;
  read(out, node, {integer ? TypeKind::kInteger : TypeKind::kText, list_type.range, {}});
}

template <class T>
void read(std::vector<T>& out, const Node& node, const Type& type) {
  out.clear();
  if (node.kind == Node::Kind::kScalar) {
    read_element(out.emplace_back(), node, type);
    return;
  }
  if (node.kind != Node::Kind::kList) {
    wrong(node, type);
  }
  for (const Node& item : node.items) {
    read_element(out.emplace_back(), item, type);
  }
}

template <class T>
void read(std::optional<T>& out, const Node& node, const Type& type) {
  read(out.emplace(), node, type);
}

template <class T>
void read_map(T& out, const Node& node, const Type& type) {
  if (node.kind != Node::Kind::kMap) {
    wrong(node, type);
  }
  out.clear();
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    if (node.items[i].kind == Node::Kind::kNull) {
      continue;  // empty: as if not written
    }
    typename T::value_type entry{node.keys[i], {}};
    if constexpr (requires { entry.second.push_back(std::string()); } &&
                  !std::is_same_v<std::decay_t<decltype(entry.second)>, std::string>) {
      read(entry.second, node.items[i], {TypeKind::kTextList, {}, {}});
    } else {
      read_element(entry.second, node.items[i], type);
    }
    out.insert(out.end(), std::move(entry));
  }
}
void read(std::vector<std::pair<std::string, std::int64_t>>& out, const Node& n, const Type& t) {
  read_map(out, n, t);
}
void read(std::vector<std::pair<std::string, std::string>>& out, const Node& n, const Type& t) {
  read_map(out, n, t);
}
void read(std::map<std::string, std::string>& out, const Node& n, const Type& t) {
  read_map(out, n, t);
}
void read(std::map<std::string, std::vector<std::string>>& out, const Node& n, const Type& t) {
  read_map(out, n, t);
}

std::string show(bool value) { return value ? "true" : "false"; }
std::string show(std::int64_t value) { return std::to_string(value); }
std::string show(double value) { return number_text(value); }
std::string show(const std::string& value) { return value.empty() ? "" : yaml_text(value); }

template <class T>
std::string show(const std::vector<T>& values);

template <class T>
std::string show(const std::optional<T>& value) {
  return value ? show(*value) : "";
}

template <class K, class V>
std::string show(const std::pair<K, V>& entry) {
  return yaml_text(entry.first) + ": " + show(entry.second);
}

template <class Container>
std::string joined(const Container& values, char open, char close) {
  std::string out(1, open);
  for (const auto& value : values) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
      out += (out.size() > 1 ? ", " : "") + yaml_text(value);
    } else {
      out += (out.size() > 1 ? ", " : "") + show(value);
    }
  }
  return out + close;
}
template <class T>
std::string show(const std::vector<T>& values) {
  return joined(values, '[', ']');
}
template <class V>
std::string show(const std::map<std::string, V>& values) {
  return joined(values, '{', '}');
}
template <class V>
std::string show(const std::vector<std::pair<std::string, V>>& values) {
  return joined(values, '{', '}');
}

template <class Object, class T>
Key<Object> make(std::string_view name, Ref<Object, T> to, Type type, std::string_view help) {
  auto set = [to, type](Object& object, const Node& node) { read(to(object), node, type); };
  auto get = [to, kind = type.kind](const Object& object) {
    const T& member = to(const_cast<Object&>(object));
    if constexpr (std::is_same_v<T, std::string>) {
      return kind == TypeKind::kObject ? member : show(member);
    } else {
      return show(member);
    }
  };
  return {name, std::move(type), help, set, get, false};
}

}  // namespace

std::size_t read_choice(const Node& node, const Type& type) {
  const std::string& text = scalar(node, type);
  const auto value = parse_bool(text);
  for (std::size_t i = 0; i < type.choices.size(); ++i) {
    if (type.choices[i] == text) {
      return i;
    }
  }
  for (std::size_t i = 0; value && i < type.choices.size(); ++i) {
    const auto choice = parse_bool(type.choices[i]);
    if (choice && *choice == *value) {
      return i;
    }
  }
  wrong(node, type);
}

template <class O>
Key<O> Keys<O>::flag(View name, To<bool> to, View help) {
  return make(name, to, {TypeKind::kBool, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::flag(View name, To<std::optional<bool>> to, View help) {
  return make(name, to, {TypeKind::kBool, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::integer(View name, To<std::int64_t> to, Range range, View help) {
  return make(name, to, {TypeKind::kInteger, range, {}}, help);
}
template <class O>
Key<O> Keys<O>::integer(View name, To<std::optional<std::int64_t>> to, Range range, View help) {
  return make(name, to, {TypeKind::kInteger, range, {}}, help);
}
template <class O>
Key<O> Keys<O>::number(View name, To<double> to, Range range, View help) {
  return make(name, to, {TypeKind::kNumber, range, {}}, help);
}
template <class O>
Key<O> Keys<O>::number(View name, To<std::optional<double>> to, Range range, View help) {
  return make(name, to, {TypeKind::kNumber, range, {}}, help);
}
template <class O>
Key<O> Keys<O>::text(View name, To<std::string> to, View help) {
  return make(name, to, {TypeKind::kText, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::one_of(View name, To<std::string> to, std::vector<std::string> choices, View help) {
  return make(name, to, {TypeKind::kChoice, {}, std::move(choices)}, help);
}
template <class O>
Key<O> Keys<O>::list(View name, To<std::vector<std::string>> to, View help) {
  return make(name, to, {TypeKind::kTextList, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::integers(View name, To<std::optional<std::vector<std::int64_t>>> to, View help) {
  return make(name, to, {TypeKind::kIntegerList, {0.0, {}, false, false}, {}}, help);
}
template <class O>
Key<O> Keys<O>::integer_map(View name, To<Pairs> to, Range range, View help) {
  return make(name, to, {TypeKind::kIntegerMap, range, {}}, help);
}
template <class O>
Key<O> Keys<O>::text_map(View name, To<std::map<std::string, std::string>> to, View help) {
  return make(name, to, {TypeKind::kTextMap, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::text_map(View name, To<TextPairs> to, View help) {
  return make(name, to, {TypeKind::kTextMap, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::text_list_map(View name,
                              To<std::map<std::string, std::vector<std::string>>> to,
                              View help) {
  return make(name, to, {TypeKind::kTextListMap, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::object(View name, To<std::string> to, View help) {
  return make(name, to, {TypeKind::kObject, {}, {}}, help);
}
template <class O>
Key<O> Keys<O>::names_or_regex(View name,
                               To<std::vector<std::string>> names,
                               To<std::string> regex,
                               View help) {
  const Type type{TypeKind::kNamesOrRegex, {}, {}};
  auto set = [=](O& object, const Node& node) {
    names(object).clear();
    regex(object).clear();
    if (node.kind == Node::Kind::kScalar) {
      read(regex(object), node, type);
    } else {
      read(names(object), node, type);
    }
  };
  auto get = [=](const O& object) {
    O& self = const_cast<O&>(object);
    return regex(self).empty() ? show(names(self)) : show(regex(self));
  };
  return {name, type, help, set, get, false};
}

template struct Keys<Config>;
template struct Keys<train::DatasetOptions>;

}  // namespace moesmith::config
