// SPDX-License-Identifier: Apache-2.0
// Filters that make text.
#include <algorithm>

#include "text/jinja/characters.h"
#include "text/jinja/escape.h"
#include "text/jinja/fault.h"
#include "text/jinja/filter_functions.h"
#include "text/jinja/methods.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

// soft_str: text stays as it is, Markup included.
Value soft(const Value& value) { return value.is_string() ? value : Value(to_string(value)); }

Value by_method(Interpreter& interpreter,
                const Value& value,
                std::string_view method,
                const Arguments& arguments) {
  return find_string_method(method)->apply(interpreter, soft(value), arguments);
}

}  // namespace

Value filter_upper(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return by_method(interpreter, value, "upper", arguments);
}

Value filter_lower(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return by_method(interpreter, value, "lower", arguments);
}

Value filter_capitalize(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return by_method(interpreter, value, "capitalize", arguments);
}

Value filter_trim(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return by_method(interpreter, value, "strip", arguments);
}

Value filter_center(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer(0, 80));
  return by_method(interpreter, value, "center", width);
}

// A word begins at the start and after each run of "-", white space, "(", "{", "[" and "<".
Value filter_title(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("title", arguments, {});
  const Value text = soft(value);
  std::string out, word;
  bool in_gap = false;
  const auto flush = [&] {
    if (word.empty()) return;
    const std::size_t first = byte_offset(word, 1);
    out += to_upper(std::string_view(word).substr(0, first));
    out += to_lower(std::string_view(word).substr(first));
    word.clear();
  };
  for (const std::string_view c : characters(text.string())) {
    std::size_t at = 0;
    const char32_t code = unicode::next(c, at);
    const bool gap = is_space(code) || c == "-" || c == "(" || c == "{" || c == "[" || c == "<";
    if (gap != in_gap) flush();
    in_gap = gap;
    word += c;
  }
  flush();
  return interpreter.text(std::move(out));
}

Value filter_replace(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  Arguments plain;
  plain.positional = {Value(to_string(*bound[0])), Value(to_string(*bound[1])),
                      bound.given(2) ? *bound[2] : Value(-1)};
  return find_string_method("replace")->apply(interpreter, Value(to_string(value)), plain);
}

Value filter_format(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    fail("can't handle positional and keyword arguments at the same time");
  }
  Value values;
  if (arguments.named.empty()) {
    values = Value::tuple(arguments.positional);
  } else {
    std::vector<std::pair<Value, Value>> entries;
    for (const auto& [key, item] : arguments.named) entries.emplace_back(Value(key), item);
    values = Value::dict(std::move(entries));
  }
  const Value format = soft(value);
  return interpreter.text(format_percent(format.string(), values), format.is_markup());
}

Value filter_indent(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  if (!value.is_string()) fail("indent wants a str, got ", type_name(value));
  std::string indention = "    ";
  if (bound[0] != nullptr && bound[0]->is_string()) {
    indention = bound.text(0);
  } else if (bound[0] != nullptr) {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(0, 4), 0);
    if (width > 1 << 16) unsupported("an indentation of more than 65536");
    indention.assign(static_cast<std::size_t>(width), ' ');
  }
  // Behind the added newline the last line is never lost, an empty one included.
  const std::vector<std::string> lines = split_lines(value.string() + "\n", false);
  std::string out = bound.truth(1, false) ? indention : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += "\n";
      if (!lines[i].empty() || bound.truth(2, false)) out += indention;
    }
    out += lines[i];
    interpreter.charge(1 + static_cast<std::int64_t>(indention.size() / 16));
  }
  return interpreter.text(std::move(out), value.is_markup());
}

Value filter_truncate(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const std::string end = bound[2] == nullptr ? "..." : bound.text(2);
  const std::int64_t length = bound.integer(0, 255);
  const std::int64_t leeway = bound.given(3) ? bound.integer(3, 5) : 5;
  const std::int64_t kept = length - count_characters(end);
  if (kept < 0) fail("expected length >= ", count_characters(end), ", got ", length);
  if (leeway < 0) fail("expected leeway >= 0, got ", leeway);
  if (jinja::length(value) <= length + leeway) return value;
  if (!value.is_string()) fail("truncate wants a str, got ", type_name(value));
  const std::string& text = value.string();
  std::string out = text.substr(0, byte_offset(text, kept));
  if (!bound.truth(1, false)) out = rsplit(out, " ", 1).front();
  return interpreter.text(out + end, value.is_markup());
}

Value filter_wordcount(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  const Value text = soft(value);
  std::int64_t count = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.string().size();) {
    const char32_t c = unicode::next(text.string(), at);
    const bool word = c == '_' || is_alpha(c) || is_numeric(c);
    count += word && !inside;
    inside = word;
  }
  return count;
}

Value filter_string(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return soft(value);
}

Value filter_safe(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  return Value(to_string(value), true);
}

Value filter_escape(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  return value.is_markup() ? value : Value(escape_html(to_string(value)), true);
}

Value filter_force_escape(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("forceescape", arguments, {});
  return Value(escape_html(to_string(value)), true);
}

// transformers' tojson: json.dumps, which escapes no HTML and by default nothing but controls.
Value filter_tojson(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.truth(0, false);
  style.sort_keys = bound.truth(3, false);
  if (bound.given(1)) {
    style.pretty = true;
    style.item_separator = ",";
    if (bound[1]->is_string()) {
      style.indent = bound.text(1);
    } else {
      const std::int64_t width = std::max<std::int64_t>(bound.integer(1, 0), 0);
      if (width > 1024) unsupported("an indentation of more than 1024");
      style.indent.assign(static_cast<std::size_t>(width), ' ');
    }
  }
  if (bound.given(2)) {
    const Items separators = iterate(*bound[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      fail("tojson() wants two strings as separators");
    }
    style.item_separator = separators[0].string();
    style.key_separator = separators[1].string();
  }
  return interpreter.text(dump_json(value, style));
}

}  // namespace moesmith::text::jinja
