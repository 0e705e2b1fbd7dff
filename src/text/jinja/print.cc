// SPDX-License-Identifier: Apache-2.0
// str() and repr().
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/object.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

std::string join(const Items& items) {
  std::string out;
  for (const Value& item : items) {
    if (!out.empty()) out += ", ";
    out += repr(item);
  }
  return out;
}

std::string repr_sequence(const Sequence& s) {
  switch (s.kind) {
    case SequenceKind::kList:
      return "[" + join(s.items) + "]";
    case SequenceKind::kTuple:
      return "(" + join(s.items) + (s.items.size() == 1 ? ",)" : ")");
    case SequenceKind::kKeys:
      return "dict_keys([" + join(s.items) + "])";
    case SequenceKind::kValues:
      return "dict_values([" + join(s.items) + "])";
    case SequenceKind::kItems:
      return "dict_items([" + join(s.items) + "])";
    case SequenceKind::kRange:
      return str("range(", s.start, ", ", s.stop, s.step == 1 ? "" : str(", ", s.step), ")");
    case SequenceKind::kGenerator:
      break;
  }
  unsupported("printing a generator; turn it into a list with the filter 'list'");
}

std::string repr_dict(const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.entries) {
    if (out.size() > 1) out += ", ";
    out += repr(key) + ": " + repr(value);
  }
  return out + "}";
}

void append_escape(std::string& out, char32_t c) {
  char text[16];
  const auto code = static_cast<unsigned>(c);
  std::snprintf(text, sizeof text,
                c < 0x100     ? "\\x%02x"
                : c < 0x10000 ? "\\u%04x"
                              : "\\U%08x",
                code);
  out += text;
}

}  // namespace

std::string type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_bool()) return "bool";
  if (value.is_int()) return "int";
  if (value.is_float()) return "float";
  if (value.is_string()) return value.is_markup() ? "Markup" : "str";
  if (value.is_dict()) return "dict";
  if (value.is_object()) return value.object()->type_name();
  switch (value.sequence().kind) {
    case SequenceKind::kList:
      return "list";
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kRange:
      return "range";
    case SequenceKind::kGenerator:
      return "generator";
    case SequenceKind::kKeys:
      return "dict_keys";
    case SequenceKind::kValues:
      return "dict_values";
    case SequenceKind::kItems:
      return "dict_items";
  }
  return "";
}

std::string format_float(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, number, std::chars_format::scientific);
  std::string digits(text, end.ptr);
  const std::size_t e = digits.find('e');
  const int exponent = std::atoi(digits.c_str() + e + 1);
  digits.resize(e);
  if (exponent < -4 || exponent >= 16) {
    std::snprintf(text, sizeof text, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return digits + text;
  }
  const auto fixed = std::to_chars(text, text + sizeof text, number, std::chars_format::fixed);
  std::string out(text, fixed.ptr);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string repr_string(std::string_view s) {
  const bool single = s.find('\'') == s.npos || s.find('"') != s.npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (std::size_t at = 0; at < s.size();) {
    const std::size_t begin = at;
    const char32_t c = unicode::next(s, at);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out += '\\';
      out += static_cast<char>(c);
    } else if (is_printable(c)) {
      out += s.substr(begin, at - begin);
    } else {
      append_escape(out, c);
    }
  }
  return out + quote;
}

std::string repr(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.boolean() ? "True" : "False";
  if (value.is_int()) return std::to_string(value.integer());
  if (value.is_float()) return format_float(value.number());
  if (value.is_markup()) return "Markup(" + repr_string(value.string()) + ")";
  if (value.is_string()) return repr_string(value.string());
  if (value.is_dict()) return repr_dict(value.dict());
  return value.is_object() ? value.object()->repr() : repr_sequence(value.sequence());
}

std::string to_string(const Value& value) {
  if (value.is_undefined()) return "";
  return value.is_string() ? value.string() : repr(value);
}

}  // namespace moesmith::text::jinja
