// SPDX-License-Identifier: Apache-2.0
// "..." % arguments, "...".format(...) and format(value, spec).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "text/jinja/arguments.h"
#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

// What both languages of format share.
struct Layout {
  std::string fill = " ";
  char align = '\0';  // '<' '>' '^' '=' or none
  char sign = '-';    // '-', '+', ' '
  bool alternate = false;
  bool comma = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

constexpr std::int64_t kMaxWidth = 1 << 20;

std::int64_t take_number(std::string_view text, std::size_t& at) {
  std::int64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    value = value * 10 + (text[at++] - '0');
    if (value > kMaxWidth) unsupported("a format width or precision beyond ", kMaxWidth);
  }
  return value;
}

// Text with its sign split off, laid into the width.
std::string lay_out(const Layout& layout, const std::string& sign, const std::string& body) {
  const std::int64_t missing = layout.width - count_characters(sign) - count_characters(body);
  if (missing <= 0) return sign + body;
  const auto fill = [&](std::int64_t count) {
    std::string out;
    for (std::int64_t i = 0; i < count; ++i) out += layout.fill;
    return out;
  };
  switch (layout.align) {
    case '<':
      return sign + body + fill(missing);
    case '^':
      return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    case '=':
      return sign + fill(missing) + body;
    default:
      return fill(missing) + sign + body;
  }
}

std::string sign_of(const Layout& layout, bool negative) {
  if (negative) return "-";
  return layout.sign == '-' ? "" : std::string(1, layout.sign);
}

std::string group_thousands(const std::string& digits) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string format_integer(const Layout& layout, std::int64_t value, std::int64_t min_digits) {
  const bool negative = value < 0;
  const std::uint64_t magnitude =
      negative ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  const unsigned base = layout.type == 'x' || layout.type == 'X' ? 16
                        : layout.type == 'o'                     ? 8
                        : layout.type == 'b'                     ? 2
                                                                 : 10;
  std::string digits;
  for (std::uint64_t rest = magnitude; rest > 0 || digits.empty(); rest /= base) {
    const char* symbols = layout.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    digits += symbols[rest % base];
  }
  while (static_cast<std::int64_t>(digits.size()) < min_digits) digits += '0';
  std::reverse(digits.begin(), digits.end());
  if (layout.comma) digits = group_thousands(digits);
  std::string sign = sign_of(layout, negative);
  if (layout.alternate && base != 10) sign += std::string("0") + layout.type;
  return lay_out(layout, sign, digits);
}

std::string format_double(const Layout& layout, double value, char type) {
  const bool percent = type == '%';
  if (percent) value *= 100;
  const bool negative = std::signbit(value) && !std::isnan(value);
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
    if (type == 'E' || type == 'F' || type == 'G') body = std::isnan(value) ? "NAN" : "INF";
  } else {
    char spec[8] = {'%', layout.alternate ? '#' : '.', '\0'};
    std::snprintf(spec, sizeof spec, layout.alternate ? "%%#.*%c" : "%%.*%c", percent ? 'f' : type);
    const int precision = static_cast<int>(layout.precision < 0 ? 6 : layout.precision);
    if (precision > 1000) unsupported("a precision beyond 1000");
    std::array<char, 1400> text{};
    std::snprintf(text.data(), text.size(), spec, precision, std::fabs(value));
    body = text.data();
  }
  if (layout.comma) body = group_thousands(body);
  if (percent) body += '%';
  return lay_out(layout, sign_of(layout, negative), body);
}

bool is_float_type(char type) {
  return type == 'e' || type == 'E' || type == 'f' || type == 'F' || type == 'g' || type == 'G';
}

std::string cut(std::string_view text, std::int64_t precision) {
  return std::string(precision < 0 ? text : text.substr(0, byte_offset(text, precision)));
}

// ---- %

class Percent {
 public:
  Percent(std::string_view format, const Value& arguments)
      : format_(format), arguments_(arguments) {
    tuple_ = arguments.is_sequence(SequenceKind::kTuple);
  }

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out += format_[at_++];
      } else if (++at_, at_ < format_.size() && format_[at_] == '%') {
        out += format_[at_++];
      } else {
        out += conversion();
      }
      if (static_cast<std::int64_t>(out.size()) > kMaxStringBytes) unsupported("a long string");
    }
    const bool all_used = tuple_ ? used_ == arguments_.items().size()
                                 : used_ > 0 || by_name_ || arguments_.is_dict() ||
                                       arguments_.is_sequence(SequenceKind::kList);
    if (!all_used) fail("not all arguments converted during string formatting");
    return out;
  }

 private:
  Value next() {
    if (tuple_) {
      if (used_ >= arguments_.items().size()) fail("not enough arguments for format string");
      return arguments_.items()[used_++];
    }
    if (used_++ > 0) fail("not enough arguments for format string");
    return arguments_;
  }

  std::int64_t star_or_number() {
    if (at_ < format_.size() && format_[at_] == '*') unsupported("'*' in a % format");
    return take_number(format_, at_);
  }

  std::string conversion() {
    Layout layout;
    Value named;
    bool has_name = false;
    if (at_ < format_.size() && format_[at_] == '(') {
      const std::size_t end = format_.find(')', at_);
      if (end == format_.npos) fail("incomplete format key");
      if (!arguments_.is_dict()) fail("format requires a mapping");
      const Value key(format_.substr(at_ + 1, end - at_ - 1));
      const Value* found = arguments_.dict().find(key);
      if (found == nullptr) fail("KeyError: ", repr(key));
      named = *found;
      has_name = by_name_ = true;
      at_ = end + 1;
    }
    bool zero = false;
    for (; at_ < format_.size(); ++at_) {
      const char c = format_[at_];
      if (c == '-')
        layout.align = '<';
      else if (c == '+')
        layout.sign = '+';
      else if (c == ' ')
        layout.sign = layout.sign == '+' ? '+' : ' ';
      else if (c == '0')
        zero = true;
      else if (c == '#')
        layout.alternate = true;
      else
        break;
    }
    layout.width = star_or_number();
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      layout.precision = star_or_number();
    }
    if (at_ >= format_.size()) fail("incomplete format");
    layout.type = format_[at_++];
    return convert(layout, zero, has_name ? named : next());
  }

  static std::string convert(Layout layout, bool zero, const Value& value) {
    const char type = layout.type;
    if (type == 's') return lay_out(layout, "", cut(to_string(value), layout.precision));
    if (type == 'r') return lay_out(layout, "", cut(repr(value), layout.precision));
    if (zero && layout.align != '<') {
      layout.fill = "0";
      layout.align = '=';
    }
    if (value.is_undefined()) fail(value.why_undefined().message);
    if (is_float_type(type)) {
      if (!value.is_number()) fail("must be real number, not ", type_name(value));
      return format_double(layout, value.number(), type);
    }
    const bool decimal = type == 'd' || type == 'i' || type == 'u';
    if (!decimal && type != 'x' && type != 'X' && type != 'o') {
      unsupported("the conversion %", std::string(1, type), " of a % format");
    }
    if (!value.is_number() || (value.is_float() && !decimal)) {
      fail("%", std::string(1, type), " format: a real number is required, not ", type_name(value));
    }
    return format_integer(layout, value.is_float() ? int_of(value.number()) : value.integer(),
                          layout.precision);
  }

  std::string_view format_;
  const Value& arguments_;
  bool tuple_ = false, by_name_ = false;
  std::size_t at_ = 0, used_ = 0;
};

// ---- {}

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

std::string format_percent(std::string_view format, const Value& arguments) {
  return Percent(format, arguments).run();
}

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
