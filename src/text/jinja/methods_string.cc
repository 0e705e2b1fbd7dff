// SPDX-License-Identifier: Apache-2.0
// The methods of str.
#include <algorithm>
#include <functional>

#include "text/jinja/characters.h"
#include "text/jinja/escape.h"
#include "text/jinja/fault.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/limits.h"
#include "text/jinja/methods.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

// Methods of Markup give Markup.
Value same(const Value& self, std::string text) {
  if (static_cast<std::int64_t>(text.size()) > kMaxStringBytes) {
    unsupported("a string of more than ", kMaxStringBytes, " bytes");
  }
  return Value(std::move(text), self.is_markup());
}

// An argument that becomes part of the result: escaped when that is Markup.
std::string part(const Value& self, const Value& argument) {
  return self.is_markup() && !argument.is_markup() ? escape_html(argument.string())
                                                   : argument.string();
}

std::string checked_part(const Value& self, const Bound& bound, std::size_t i) {
  bound.text(i);  // throws unless it is a string
  return part(self, *bound[i]);
}

Value strings(Interpreter& interpreter, const Value& self, const std::vector<std::string>& parts) {
  Items items;
  for (const std::string& text : parts) items.emplace_back(text, self.is_markup());
  return interpreter.list(std::move(items));
}

Value strip_side(const Value& self, const Arguments& arguments, Side side, std::string_view name) {
  const Bound bound(name, arguments, {"chars"});
  const std::string_view text = self.string();
  return same(self,
              std::string(bound.given(0) ? strip(text, bound.text(0), side) : strip(text, side)));
}

Value split_any(Interpreter& interpreter,
                const Value& self,
                const Arguments& arguments,
                bool from_right) {
  const Bound bound(from_right ? "rsplit" : "split", arguments, {"sep", "maxsplit"});
  const std::int64_t limit = bound.integer(1, -1);
  const std::string& text = self.string();
  if (!bound.given(0)) {
    return strings(interpreter, self, from_right ? rsplit(text, limit) : split(text, limit));
  }
  const std::string& by = bound.text(0);
  if (by.empty()) fail("empty separator");
  return strings(interpreter, self, from_right ? rsplit(text, by, limit) : split(text, by, limit));
}

// text[start:end] of startswith, find and count; false when start is behind the end.
struct Window {
  std::string_view text;
  std::int64_t start = 0;  // in characters
  bool inside = true;
};

Window window(const Value& self, const Bound& bound, std::size_t first) {
  Window w{self.string()};
  if (!bound.given(first) && !bound.given(first + 1)) return w;
  const std::int64_t count = count_characters(w.text);
  const auto clamp = [&](std::int64_t i) {
    return i < 0 ? std::max<std::int64_t>(i + count, 0) : i;
  };
  w.start = bound.given(first) ? clamp(bound.integer(first, 0)) : 0;
  std::int64_t end = bound.given(first + 1) ? clamp(bound.integer(first + 1, 0)) : count;
  end = std::min(end, count);
  w.inside = w.start <= end;
  const std::size_t begin = byte_offset(w.text, w.start);
  const std::size_t stop = w.inside ? byte_offset(w.text, end) : begin;
  w.text = w.text.substr(begin, stop - begin);
  return w;
}

Value affix(const Value& self, const Arguments& arguments, bool prefix) {
  const std::string_view name = prefix ? "startswith" : "endswith";
  const Bound bound(name, arguments, {"prefix", "start", "end"}, 1);
  const Window w = window(self, bound, 1);
  const auto matches = [&](const std::string& s) {
    return w.inside && (prefix ? w.text.starts_with(s) : w.text.ends_with(s));
  };
  if (bound[0]->is_sequence(SequenceKind::kTuple)) {
    for (const Value& item : bound[0]->items()) {
      if (!item.is_string()) fail("tuple for ", name, " must only contain str");
      if (matches(item.string())) return true;
    }
    return false;
  }
  if (!bound[0]->is_string()) {
    fail(name, " first arg must be str or a tuple of str, not ", type_name(*bound[0]));
  }
  return matches(bound.text(0));
}

Value find_any(const Value& self, const Arguments& arguments, bool last, bool must) {
  const Bound bound(last ? "rfind" : "find", arguments, {"sub", "start", "end"}, 1);
  const Window w = window(self, bound, 1);
  const std::size_t at = last ? w.text.rfind(bound.text(0)) : w.text.find(bound.text(0));
  if (!w.inside || at == w.text.npos) {
    if (must) fail("substring not found");
    return std::int64_t{-1};
  }
  return w.start + count_characters(w.text.substr(0, at));
}

Value count_substrings(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"sub", "start", "end"}, 1);
  const Window w = window(self, bound, 1);
  const std::string& sub = bound.text(0);
  if (!w.inside) return std::int64_t{0};
  if (sub.empty()) return count_characters(w.text) + 1;
  std::int64_t count = 0;
  for (std::size_t at = w.text.find(sub); at != w.text.npos;
       at = w.text.find(sub, at + sub.size())) {
    ++count;
  }
  return count;
}

Value partition(const Value& self, const Arguments& arguments, bool last) {
  const Bound bound(last ? "rpartition" : "partition", arguments, {"sep"}, 1);
  const std::string& text = self.string();
  const std::string& by = bound.text(0);
  if (by.empty()) fail("empty separator");
  const std::size_t at = last ? text.rfind(by) : text.find(by);
  if (at == text.npos) {
    const Value empty = same(self, "");
    return Value::tuple(last ? Items{empty, empty, self} : Items{self, empty, empty});
  }
  return Value::tuple(
      {same(self, text.substr(0, at)), same(self, by), same(self, text.substr(at + by.size()))});
}

Value pad(const Value& self, const Arguments& arguments, std::string_view name) {
  const Bound bound(name, arguments, {"width", "fillchar"}, 1);
  const std::string fill = bound[1] == nullptr ? " " : bound.text(1);
  if (count_characters(fill) != 1) fail("the fill character must be exactly one character long");
  const std::int64_t width = bound.integer(0, 0);
  const std::int64_t missing = width - count_characters(self.string());
  if (missing <= 0) return self;
  if (missing > kMaxStringBytes / 4)
    unsupported("a string of more than ", kMaxStringBytes, " bytes");
  // Python's center puts the odd space to the left when the width is odd.
  std::int64_t left = name == "rjust" ? missing : 0;
  if (name == "center") left = missing / 2 + (missing & width & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += self.string();
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return same(self, std::move(out));
}

Value join_strings(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("join", arguments, {"iterable"}, 1);
  std::string out;
  std::int64_t index = 0;
  for (const Value& item : iterate(*bound[0])) {
    if (!item.is_string()) {
      fail("sequence item ", index, ": expected str instance, ", type_name(item), " found");
    }
    if (index++ > 0) out += self.string();
    out += part(self, item);
    if (static_cast<std::int64_t>(out.size()) > kMaxStringBytes) break;
  }
  return same(self, std::move(out));
}

Value replace_all(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  const std::string old = checked_part(self, bound, 0);
  const std::string by = checked_part(self, bound, 1);
  // At most one replacement per byte and one more.
  const auto most =
      static_cast<std::int64_t>(self.string().size() / std::max<std::size_t>(old.size(), 1)) + 1;
  if (!by.empty() && most > kMaxStringBytes / static_cast<std::int64_t>(by.size())) {
    unsupported("a string of more than ", kMaxStringBytes, " bytes");
  }
  return same(self, replace(self.string(), old, by, bound.integer(2, -1)));
}

Value format_string(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const LookUp look_up = [&](const Value& value, const Value& key, bool is_attribute) {
    return is_attribute ? interpreter.attribute(value, key.string()) : interpreter.item(value, key);
  };
  return same(self, format_braces(self.string(), arguments, look_up));
}

Value zero_fill(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("zfill", arguments, {"width"}, 1);
  const std::string& text = self.string();
  const std::int64_t missing = bound.integer(0, 0) - count_characters(text);
  if (missing <= 0) return self;
  if (missing > kMaxStringBytes) unsupported("a string of more than ", kMaxStringBytes, " bytes");
  const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return same(self, text.substr(0, sign) + std::string(static_cast<std::size_t>(missing), '0') +
                        text.substr(sign));
}

Value without_affix(const Value& self, const Arguments& arguments, bool prefix) {
  const Bound bound(prefix ? "removeprefix" : "removesuffix", arguments, {"affix"}, 1);
  const std::string& text = self.string();
  const std::string& affix = bound.text(0);
  if (prefix && text.starts_with(affix)) return same(self, text.substr(affix.size()));
  if (!prefix && text.ends_with(affix)) {
    return same(self, text.substr(0, text.size() - affix.size()));
  }
  return self;
}

Value expand_tabs(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("expandtabs", arguments, {"tabsize"});
  const std::int64_t size = std::min<std::int64_t>(bound.integer(0, 8), 1024);
  std::string out;
  std::int64_t column = 0;
  for (const std::string_view c : characters(self.string())) {
    if (c == "\t") {
      const std::int64_t spaces = size > 0 ? size - column % size : 0;
      out.append(static_cast<std::size_t>(spaces), ' ');
      column += spaces;
    } else {
      out += c;
      column = c == "\n" || c == "\r" ? 0 : column + 1;
    }
  }
  return same(self, std::move(out));
}

template <bool (*Test)(char32_t)>
Value every(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("is...", arguments, {});
  const std::string& text = self.string();
  for (std::size_t at = 0; at < text.size();) {
    if (!Test(unicode::next(text, at))) return false;
  }
  return !text.empty();
}

bool is_alphanumeric(char32_t c) { return is_alpha(c) || is_numeric(c); }

Value is_ascii(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("isascii", arguments, {});
  return std::all_of(self.string().begin(), self.string().end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

Value all_printable(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  return self.string().empty() ? Value(true) : every<is_printable>(interpreter, self, arguments);
}

template <std::string (*Map)(std::string_view)>
Value mapped(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("case", arguments, {});
  return same(self, Map(self.string()));
}

using A = const Arguments&;
using I = Interpreter&;
using V = const Value&;

constexpr Method kMethods[] = {
    {"capitalize", mapped<to_capitalized>},
    {"casefold", mapped<fold_case>},
    {"center", [](I, V self, A a) { return pad(self, a, "center"); }},
    {"count", count_substrings},
    {"endswith", [](I, V self, A a) { return affix(self, a, false); }},
    {"expandtabs", expand_tabs},
    {"find", [](I, V self, A a) { return find_any(self, a, false, false); }},
    {"format", format_string},
    {"index", [](I, V self, A a) { return find_any(self, a, false, true); }},
    {"isalnum", every<is_alphanumeric>},
    {"isalpha", every<is_alpha>},
    {"isascii", is_ascii},
    {"isdecimal", every<is_decimal>},
    {"isdigit", every<is_digit>},
    {"islower", [](I, V self, A) { return Value(is_lower_text(self.string())); }},
    {"isnumeric", every<is_numeric>},
    {"isprintable", all_printable},
    {"isspace", every<is_space>},
    {"isupper", [](I, V self, A) { return Value(is_upper_text(self.string())); }},
    {"join", join_strings},
    {"ljust", [](I, V self, A a) { return pad(self, a, "ljust"); }},
    {"lower", mapped<to_lower>},
    {"lstrip", [](I, V self, A a) { return strip_side(self, a, Side::kLeft, "lstrip"); }},
    {"partition", [](I, V self, A a) { return partition(self, a, false); }},
    {"removeprefix", [](I, V self, A a) { return without_affix(self, a, true); }},
    {"removesuffix", [](I, V self, A a) { return without_affix(self, a, false); }},
    {"replace", replace_all},
    {"rfind", [](I, V self, A a) { return find_any(self, a, true, false); }},
    {"rindex", [](I, V self, A a) { return find_any(self, a, true, true); }},
    {"rjust", [](I, V self, A a) { return pad(self, a, "rjust"); }},
    {"rpartition", [](I, V self, A a) { return partition(self, a, true); }},
    {"rsplit", [](I i, V self, A a) { return split_any(i, self, a, true); }},
    {"rstrip", [](I, V self, A a) { return strip_side(self, a, Side::kRight, "rstrip"); }},
    {"split", [](I i, V self, A a) { return split_any(i, self, a, false); }},
    {"splitlines",
     [](I i, V self, A a) {
       const Bound bound("splitlines", a, {"keepends"});
       return strings(i, self, split_lines(self.string(), bound.truth(0, false)));
     }},
    {"startswith", [](I, V self, A a) { return affix(self, a, true); }},
    {"strip", [](I, V self, A a) { return strip_side(self, a, Side::kBoth, "strip"); }},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<to_titlecase>},
    {"upper", mapped<to_upper>},
    {"zfill", zero_fill},
};

}  // namespace

const Method* find_string_method(std::string_view name) {
  for (const Method& method : kMethods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace moesmith::text::jinja
