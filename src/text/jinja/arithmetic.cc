// SPDX-License-Identifier: Apache-2.0
// + - * / // % ** with Python's meaning; integers have 64 bits and overflow is an error.
#include <cmath>
#include <limits>

#include "text/jinja/escape.h"
#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

[[noreturn]] void overflow() { unsupported("an integer beyond 64 bits"); }

[[noreturn]] void bad_operands(std::string_view op, const Value& a, const Value& b) {
  if (op == "+" && a.is_string()) {
    fail("can only concatenate str (not \"", type_name(b), "\") to str");
  }
  if (op == "+" && (a.is_sequence(SequenceKind::kList) || a.is_sequence(SequenceKind::kTuple))) {
    fail("can only concatenate ", type_name(a), " (not \"", type_name(b), "\") to ", type_name(a));
  }
  fail("unsupported operand type(s) for ", op == "**" ? "** or pow()" : op, ": '", type_name(a),
       "' and '", type_name(b), "'");
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  if (b == 0) fail("integer division or modulo by zero");
  if (b == -1) {
    if (a == std::numeric_limits<std::int64_t>::min()) overflow();
    return -a;
  }
  const std::int64_t quotient = a / b;
  return quotient - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
}

Value power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

Value integers(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t result;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &result)) overflow();
    return result;
  }
  if (op == "-") {
    if (__builtin_sub_overflow(a, b, &result)) overflow();
    return result;
  }
  if (op == "*") {
    if (__builtin_mul_overflow(a, b, &result)) overflow();
    return result;
  }
  if (op == "//") return floor_div(a, b);
  if (op == "%") return b == -1 ? std::int64_t{0} : a - floor_div(a, b) * b;
  if (op == "**") return power(a, b);
  if (b == 0) fail("division by zero");
  return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
}

double float_mod(double a, double b) {
  if (b == 0) fail("float modulo");
  double mod = std::fmod(a, b);
  if (mod != 0 && (b < 0) != (mod < 0)) return mod + b;
  return mod == 0 ? std::copysign(0.0, b) : mod;
}

double float_floor_div(double a, double b) {
  if (b == 0) fail("float floor division by zero");
  double mod = std::fmod(a, b);
  double quotient = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1.0 : floor;
}

Value floats(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "//") return float_floor_div(a, b);
  if (op == "%") return float_mod(a, b);
  if (op == "/") {
    if (b == 0) fail("float division by zero");
    return a / b;
  }
  if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(b) && b != std::floor(b)) unsupported("a complex number");
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
    fail("Numerical result out of range");
  return result;
}

Value repeat(const Value& value, std::int64_t count) {
  if (count < 0) count = 0;
  if (value.is_string()) {
    const std::string& text = value.string();
    if (!text.empty() && count > kMaxStringBytes / static_cast<std::int64_t>(text.size())) {
      unsupported("a string of more than ", kMaxStringBytes, " bytes");
    }
    std::string out;
    out.reserve(text.size() * static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) out += text;
    return Value(std::move(out), value.is_markup());
  }
  const Items& items = value.items();
  if (!items.empty() && count > kMaxWork / 16 / static_cast<std::int64_t>(items.size())) {
    unsupported("a list of more than ", kMaxWork / 16, " items");
  }
  Items out;
  for (std::int64_t i = 0; i < count; ++i) out.insert(out.end(), items.begin(), items.end());
  return Value::sequence(value.sequence().kind, std::move(out));
}

bool repeatable(const Value& value) {
  return value.is_string() || value.is_sequence(SequenceKind::kList) ||
         value.is_sequence(SequenceKind::kTuple);
}

Value add(const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const bool markup = a.is_markup() || b.is_markup();
    std::string out = markup && !a.is_markup() ? escape_html(a.string()) : a.string();
    out += markup && !b.is_markup() ? escape_html(b.string()) : b.string();
    return Value(std::move(out), markup);
  }
  const bool lists = a.is_sequence(SequenceKind::kList) && b.is_sequence(SequenceKind::kList);
  const bool tuples = a.is_sequence(SequenceKind::kTuple) && b.is_sequence(SequenceKind::kTuple);
  if (!lists && !tuples) bad_operands("+", a, b);
  Items items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return Value::sequence(a.sequence().kind, std::move(items));
}

}  // namespace

Value arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return floats(op, a.number(), b.number());
    return integers(op, a.integer(), b.integer());
  }
  if (op == "%" && a.is_string()) return Value(format_percent(a.string(), b), a.is_markup());
  if (a.is_undefined()) fail(a.why_undefined().message);
  if (b.is_undefined()) fail(b.why_undefined().message);
  if (op == "+") return add(a, b);
  if (op == "*") {
    if (repeatable(a) && (b.is_int() || b.is_bool())) return repeat(a, b.integer());
    if (repeatable(b) && (a.is_int() || a.is_bool())) return repeat(b, a.integer());
    if (repeatable(a) || repeatable(b)) {
      fail("can't multiply sequence by non-int of type '", type_name(repeatable(a) ? b : a), "'");
    }
  }
  bad_operands(op, a, b);
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_float()) return -value.number();
  if (!value.is_number()) fail("bad operand type for unary -: '", type_name(value), "'");
  return integers("-", 0, value.integer());
}

Value positive(const Value& value) {
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_float()) return value;
  if (!value.is_number()) fail("bad operand type for unary +: '", type_name(value), "'");
  return value.integer();
}

}  // namespace moesmith::text::jinja
