// SPDX-License-Identifier: Apache-2.0
// "..." % arguments.
#include "text/jinja/fault.h"
#include "text/jinja/format_layout.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

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
                                       arguments_.is_undefined() ||
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

}  // namespace

std::string format_percent(std::string_view format, const Value& arguments) {
  return Percent(format, arguments).run();
}

}  // namespace moesmith::text::jinja
