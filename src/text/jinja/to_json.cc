// SPDX-License-Identifier: Apache-2.0
// json.dumps.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

class Dumper {
 public:
  explicit Dumper(const JsonStyle& style) : style_(style) {}

  void value(const Value& v) {
    if (static_cast<std::int64_t>(out_.size()) > kMaxStringBytes) {
      unsupported("a string of more than ", kMaxStringBytes, " bytes");
    }
    if (v.is_none()) {
      out_ += "null";
    } else if (v.is_bool()) {
      out_ += v.boolean() ? "true" : "false";
    } else if (v.is_int()) {
      out_ += std::to_string(v.integer());
    } else if (v.is_float()) {
      number(v.number());
    } else if (v.is_string()) {
      string(v.string());
    } else if (v.is_dict()) {
      dict(v.dict());
    } else if (v.is_sequence(SequenceKind::kList) || v.is_sequence(SequenceKind::kTuple)) {
      list(v.items());
    } else {
      fail("Object of type ", type_name(v), " is not JSON serializable");
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void number(double d) {
    out_ += std::isnan(d)   ? "NaN"
            : std::isinf(d) ? (d < 0 ? "-Infinity" : "Infinity")
                            : format_float(d);
  }

  void unit(unsigned code) {
    char text[16];
    std::snprintf(text, sizeof text, "\\u%04x", code);
    out_ += text;
  }

  void string(std::string_view s) {
    out_ += '"';
    for (std::size_t at = 0; at < s.size();) {
      const std::size_t begin = at;
      const char32_t c = unicode::next(s, at);
      switch (c) {
        case '"':
          out_ += "\\\"";
          continue;
        case '\\':
          out_ += "\\\\";
          continue;
        case '\n':
          out_ += "\\n";
          continue;
        case '\r':
          out_ += "\\r";
          continue;
        case '\t':
          out_ += "\\t";
          continue;
        case '\b':
          out_ += "\\b";
          continue;
        case '\f':
          out_ += "\\f";
          continue;
        default:
          break;
      }
      if (c < 0x20 || (style_.ascii && c > 0x7e && c < 0x10000)) {
        unit(static_cast<unsigned>(c));
      } else if (style_.ascii && c >= 0x10000) {
        unit(static_cast<unsigned>(0xd800 + ((c - 0x10000) >> 10)));
        unit(static_cast<unsigned>(0xdc00 + ((c - 0x10000) & 0x3ff)));
      } else {
        out_ += s.substr(begin, at - begin);
      }
    }
    out_ += '"';
  }

  void line(int level) {
    if (!style_.pretty) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += style_.indent;
  }

  void list(const Items& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      line(level_);
      value(items[i]);
    }
    line(--level_);
    out_ += ']';
  }

  void key(const Value& k) {
    if (k.is_string()) return string(k.string());
    if (k.is_float()) {
      out_ += '"';
      number(k.number());
      out_ += '"';
      return;
    }
    if (k.is_bool()) return string(k.boolean() ? "true" : "false");
    if (k.is_int()) return string(std::to_string(k.integer()));
    if (k.is_none()) return string("null");
    fail("keys must be str, int, float, bool or None, not ", type_name(k));
  }

  void dict(const Dict& d) {
    if (d.entries.empty()) {
      out_ += "{}";
      return;
    }
    auto entries = d.entries;
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    }
    out_ += '{';
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      line(level_);
      key(entries[i].first);
      out_ += style_.key_separator;
      value(entries[i].second);
    }
    line(--level_);
    out_ += '}';
  }

  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string dump_json(const Value& value, const JsonStyle& style) {
  Dumper dumper(style);
  dumper.value(value);
  return dumper.take();
}

}  // namespace moesmith::text::jinja
