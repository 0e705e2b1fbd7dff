// SPDX-License-Identifier: Apache-2.0
// Filters that make numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/filter_functions.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

// round(number, precision): decimal, half to even on the exact value.
double round_decimal(double number, std::int64_t precision) {
  if (!std::isfinite(number) || precision > 22) return number;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(number / scale) * scale;
  }
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", static_cast<int>(precision), number);
  return std::strtod(text, nullptr);
}

}  // namespace

Value filter_abs(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (!value.is_number()) fail("bad operand type for abs(): '", type_name(value), "'");
  if (value.is_float()) return std::fabs(value.number());
  return value.integer() < 0 ? negate(value) : Value(value.integer());
}

Value filter_int(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  const Value fallback = bound[0] == nullptr ? Value(0) : *bound[0];
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_float()) {
    return std::isnan(value.number()) ? fallback : Value(int_of(value.number()));
  }
  if (value.is_number()) return value.integer();
  if (!value.is_string()) return fallback;
  std::int64_t integer = 0;
  if (parse_int(value.string(), bound.integer(1, 10), integer)) return integer;
  double number = 0;
  if (!parse_float(value.string(), number) || std::isnan(number)) return fallback;
  return int_of(number);
}

Value filter_float(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  const Value fallback = bound[0] == nullptr ? Value(0.0) : *bound[0];
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_number()) return value.number();
  double number = 0;
  if (value.is_string() && parse_float(value.string(), number)) return number;
  return fallback;
}

Value filter_round(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string method = bound[1] == nullptr ? "common" : bound.text(1);
  if (method != "common" && method != "ceil" && method != "floor") {
    fail("method must be common, ceil or floor");
  }
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (!value.is_number()) fail("type ", type_name(value), " doesn't define __round__ method");
  if (std::abs(precision) > 300) unsupported("a precision beyond 300");
  if (method == "common") {
    if (value.is_float()) return round_decimal(value.number(), precision);
    if (precision < 0) unsupported("rounding an integer to a negative precision");
    return value.integer();
  }
  const Value scale = arithmetic("**", Value(10), Value(precision));
  const double scaled = arithmetic("*", value, scale).number();
  const Value whole(int_of(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)));
  return arithmetic("/", whole, scale);
}

Value filter_length(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  return length(value);
}

Value filter_sum(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Value total = bound[1] == nullptr ? Value(0) : *bound[1];
  if (total.is_string()) fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : iterate(value)) {
    total = arithmetic("+", total, interpreter.attribute_path(item, bound[0]));
    if (total.is_sequence()) interpreter.charge(length(total));
    interpreter.charge(1);
  }
  return total;
}

}  // namespace moesmith::text::jinja
