// SPDX-License-Identifier: Apache-2.0
// "...".format(...) and format(value, spec).
#include <algorithm>
#include <cmath>

#include "text/jinja/arguments.h"
#include "text/jinja/fault.h"
#include "text/jinja/format_layout.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

Layout parse_spec(std::string_view spec) {
  Layout layout;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  std::size_t second = 0;
  if (!spec.empty()) unicode::next(spec, second);
  if (!spec.empty() && second < spec.size() && is_align(spec[second])) {
    layout.fill = spec.substr(0, second);
    layout.align = spec[second];
    at = second + 1;
  } else if (!spec.empty() && is_align(spec[0])) {
    layout.align = spec[0];
    at = 1;
  }
  if (at < spec.size() && (spec[at] == '+' || spec[at] == '-' || spec[at] == ' ')) {
    layout.sign = spec[at++];
  }
  if (at < spec.size() && spec[at] == '#') layout.alternate = (++at, true);
  if (at < spec.size() && spec[at] == '0') {
    if (layout.align == '\0') {
      layout.fill = "0";
      layout.align = '=';
    }
    ++at;
  }
  layout.width = take_number(spec, at);
  if (at < spec.size() && spec[at] == ',') layout.comma = (++at, true);
  if (at < spec.size() && spec[at] == '.') {
    ++at;
    const std::size_t begin = at;
    layout.precision = take_number(spec, at);
    if (at == begin) fail("Format specifier missing precision");
  }
  if (at < spec.size()) layout.type = spec[at++];
  if (at != spec.size()) fail("Invalid format specifier");
  return layout;
}

class Braces {
 public:
  Braces(const Arguments& arguments, const LookUp& look_up)
      : arguments_(arguments), look_up_(look_up) {}

  std::string run(std::string_view format, int depth) {
    if (depth > 2) fail("Max string recursion exceeded");
    std::string out;
    for (std::size_t at = 0; at < format.size();) {
      const char c = format[at++];
      if (c != '{' && c != '}') {
        out += c;
      } else if (at < format.size() && format[at] == c) {
        out += c;
        ++at;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else {
        out += field(format, at, depth);
      }
      if (static_cast<std::int64_t>(out.size()) > kMaxStringBytes) unsupported("a long string");
    }
    return out;
  }

 private:
  std::string field(std::string_view format, std::size_t& at, int depth) {
    const std::size_t begin = at;
    int open = 1;
    while (at < format.size()) {
      open += format[at] == '{' ? 1 : format[at] == '}' ? -1 : 0;
      if (open == 0) break;
      ++at;
    }
    if (open != 0) fail("expected '}' before end of string");
    std::string_view text = format.substr(begin, at++ - begin);
    std::string_view spec;
    if (const std::size_t colon = text.find(':'); colon != text.npos) {
      spec = text.substr(colon + 1);
      text = text.substr(0, colon);
    }
    std::string_view conversion;
    if (const std::size_t mark = text.find('!'); mark != text.npos) {
      conversion = text.substr(mark + 1);
      text = text.substr(0, mark);
    }
    Value value = resolve(text);
    const std::string full_spec = run(spec, depth + 1);
    if (conversion == "r") return format_spec(Value(repr(value)), full_spec);
    if (conversion == "s") return format_spec(Value(to_string(value)), full_spec);
    if (!conversion.empty()) unsupported("the conversion !", conversion, " of a format");
    return format_spec(value, full_spec);
  }

  // "0.name[key]", "name", "".
  Value resolve(std::string_view text) {
    std::size_t at = std::min(text.find_first_of(".["), text.size());
    Value value = argument(text.substr(0, at));
    while (at < text.size()) {
      const bool is_attribute = text[at++] == '.';
      const std::size_t end =
          is_attribute ? std::min(text.find_first_of(".[", at), text.size()) : text.find(']', at);
      if (end == text.npos) fail("Missing ']' in format string");
      const std::string_view key = text.substr(at, end - at);
      std::int64_t index = 0;
      const bool digits = !key.empty() && key.find_first_not_of("0123456789") == key.npos;
      const bool is_index = !is_attribute && digits && parse_int(key, 10, index);
      value = look_up_(value, is_index ? Value(index) : Value(key), is_attribute);
      at = is_attribute ? end : end + 1;
    }
    return value;
  }

  Value argument(std::string_view name) {
    std::int64_t index = 0;
    if (name.empty()) {
      index = automatic_++;
    } else if (name.find_first_not_of("0123456789") != name.npos || !parse_int(name, 10, index)) {
      const Value* found = arguments_.find(name);
      if (found == nullptr) fail("KeyError: ", repr_string(name));
      return *found;
    }
    const auto i = static_cast<std::size_t>(index);
    if (i >= arguments_.positional.size()) {
      fail("Replacement index ", index, " out of range for positional args tuple");
    }
    return arguments_.positional[i];
  }

  const Arguments& arguments_;
  const LookUp& look_up_;
  std::int64_t automatic_ = 0;
};

}  // namespace

std::string format_braces(std::string_view format,
                          const Arguments& arguments,
                          const LookUp& look_up) {
  return Braces(arguments, look_up).run(format, 1);
}

std::string format_spec(const Value& value, std::string_view spec) {
  if (spec.empty()) return to_string(value);
  Layout layout = parse_spec(spec);
  if (value.is_string()) {
    if (layout.type != '\0' && layout.type != 's')
      fail("Unknown format code for object of type 'str'");
    if (layout.align == '=') fail("'=' alignment not allowed in string format specifier");
    if (layout.align == '\0') layout.align = '<';
    return lay_out(layout, "", cut(value.string(), layout.precision));
  }
  if (!value.is_number()) {
    fail("unsupported format string passed to ", type_name(value), ".__format__");
  }
  if (is_float_type(layout.type) || layout.type == '%') {
    return format_double(layout, value.number(), layout.type);
  }
  if (value.is_float()) {
    if (layout.type != '\0' || layout.precision >= 0) unsupported("the format '", spec, "'");
    const double number = value.number();
    std::string body = format_float(std::fabs(number));
    if (layout.comma) body = group_thousands(body);
    return lay_out(layout, sign_of(layout, std::signbit(number)), body);
  }
  if (value.is_bool() && layout.type == '\0') unsupported("the format '", spec, "' of a bool");
  if (layout.precision >= 0) fail("Precision not allowed in integer format specifier");
  const std::string_view types = "dxXob";
  if (layout.type != '\0' && types.find(layout.type) == types.npos) {
    unsupported("the format '", spec, "' of an int");
  }
  return format_integer(layout, value.integer(), 0);
}

}  // namespace moesmith::text::jinja
