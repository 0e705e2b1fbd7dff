// SPDX-License-Identifier: Apache-2.0
// Json::parse: recursive descent over the text, with every byte checked before it is used.
#include <algorithm>
#include <charconv>
#include <limits>
#include <system_error>

#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

constexpr int kMaxDepth = 256;  // what a hostile file may cost of the stack

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0u | code >> 6);
    put(0x80u | (code & 0x3fu));
  } else if (code < 0x10000) {
    put(0xe0u | code >> 12);
    put(0x80u | (code >> 6 & 0x3fu));
    put(0x80u | (code & 0x3fu));
  } else {
    put(0xf0u | code >> 18);
    put(0x80u | (code >> 12 & 0x3fu));
    put(0x80u | (code >> 6 & 0x3fu));
    put(0x80u | (code & 0x3fu));
  }
}

// Bytes of the UTF-8 sequence at `p`, 0 when it is none (overlong, surrogate, cut off).
std::size_t utf8_length(const char* p, const char* end) {
  const auto byte = [&](std::ptrdiff_t i) {
    return p + i < end ? static_cast<unsigned char>(p[i]) : 0u;
  };
  const auto tail = [&](std::ptrdiff_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(0);
  if (first >= 0xc2 && first < 0xe0) return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first < 0xf0) {
    if (first == 0xe0 && byte(1) < 0xa0) return 0;
    if (first == 0xed && byte(1) > 0x9f) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first < 0xf5) {
    if (first == 0xf0 && byte(1) < 0x90) return 0;
    if (first == 0xf4 && byte(1) > 0x8f) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& source)
      : begin_(text.data()), p_(begin_), end_(begin_ + text.size()), source_(source) {}

  Json document() {
    if (end_ - p_ >= 3 && std::string_view(p_, 3) == "\xef\xbb\xbf") p_ += 3;
    Json value = parse_value(0);
    skip_space();
    if (p_ != end_) fail("got more text after the value, expected the end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const auto line = 1 + std::count(begin_, p_, '\n');
    const char* start = p_;
    while (start != begin_ && start[-1] != '\n') --start;
    throw Error(ErrorCode::kInvalidInput,
                str(source_, ":", line, ":", p_ - start + 1, ": invalid JSON: ", what));
  }

  std::string here() const {
    if (p_ == end_) return "the end of the file";
    const auto c = static_cast<unsigned char>(*p_);
    if (c < 0x20 || c >= 0x7f) return str("byte ", static_cast<int>(c));
    return str("'", *p_, "'");
  }

  void skip_space() {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }

  bool consume(char c) {
    if (p_ == end_ || *p_ != c) return false;
    ++p_;
    return true;
  }

  bool consume_word(std::string_view word) {
    if (static_cast<std::size_t>(end_ - p_) < word.size() ||
        std::string_view(p_, word.size()) != word) {
      return false;
    }
    p_ += word.size();
    return true;
  }

  Json parse_value(int depth) {
    if (depth > kMaxDepth) fail(str("nested deeper than ", kMaxDepth));
    skip_space();
    if (p_ == end_) fail("got the end of the file, expected a value");
    switch (*p_) {
      case '{':
        return parse_object(depth);
      case '[':
        return parse_array(depth);
      case '"':
        return Json(parse_string());
      default:
        return parse_scalar();
    }
  }

  Json parse_scalar() {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (*p_ == '-' || is_digit(*p_)) {
      if (consume_word("-Infinity")) return Json(-kInfinity);
      return parse_number();
    }
    if (consume_word("true")) return Json(true);
    if (consume_word("false")) return Json(false);
    if (consume_word("null")) return Json();
    if (consume_word("NaN")) return Json(std::numeric_limits<double>::quiet_NaN());
    if (consume_word("Infinity")) return Json(kInfinity);
    fail("got " + here() + ", expected a value");
  }

  Json parse_number() {
    const char* start = p_;
    consume('-');
    if (p_ == end_ || !is_digit(*p_)) fail("got " + here() + ", expected a digit");
    if (*p_ == '0' && p_ + 1 != end_ && is_digit(p_[1])) fail("a number starts with 0");
    skip_digits();
    bool integer = true;
    if (consume('.')) {
      integer = false;
      need_digits();
    }
    if (p_ != end_ && (*p_ == 'e' || *p_ == 'E')) {
      ++p_;
      integer = false;
      if (!consume('+')) consume('-');
      need_digits();
    }
    if (integer) {
      std::int64_t value = 0;
      if (std::from_chars(start, p_, value).ec == std::errc()) return Json(value);
    }
    double value = 0;
    if (std::from_chars(start, p_, value).ec == std::errc::result_out_of_range) {
      // from_chars leaves the value alone; whether it was tiny or huge is told by the exponent.
      const std::string_view text(start, static_cast<std::size_t>(p_ - start));
      const std::size_t exponent = text.find_first_of("eE");
      const bool tiny = exponent != text.npos ? text[exponent + 1] == '-'
                                              : text.substr(text[0] == '-', 2) == "0.";
      if (!tiny) fail("the number " + std::string(text.substr(0, 40)) + " is out of range");
      value = text[0] == '-' ? -0.0 : 0.0;
    }
    return Json(value);
  }

  void skip_digits() {
    while (p_ != end_ && is_digit(*p_)) ++p_;
  }

  void need_digits() {
    if (p_ == end_ || !is_digit(*p_)) fail("got " + here() + ", expected a digit");
    skip_digits();
  }

  unsigned parse_hex4() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i, ++p_) {
      if (p_ == end_) fail("got the end of the file, expected four hex digits");
      const char c = *p_;
      const int digit = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("got " + here() + ", expected four hex digits");
      code = code * 16 + static_cast<unsigned>(digit);
    }
    return code;
  }

  void parse_escape(std::string& out) {
    if (p_ == end_) fail("got the end of the file inside a string");
    const char c = *p_++;
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    const std::size_t i = kNames.find(c);
    if (i != kNames.npos) {
      out += kValues[i];
      return;
    }
    if (c != 'u') {
      --p_;
      fail("got \\ before " + here() + ", expected an escape");
    }
    unsigned code = parse_hex4();
    if (code >= 0xdc00 && code < 0xe000) fail("a low surrogate without a high one before it");
    if (code >= 0xd800 && code < 0xdc00) {
      if (!consume_word("\\u")) fail("a high surrogate without a low one after it");
      const unsigned low = parse_hex4();
      if (low < 0xdc00 || low >= 0xe000) fail("a high surrogate without a low one after it");
      code = 0x10000u + ((code - 0xd800u) << 10) + (low - 0xdc00u);
    }
    append_utf8(out, code);
  }

  std::string parse_string() {
    ++p_;  // the quote
    std::string out;
    for (;;) {
      const char* start = p_;
      while (p_ != end_ && *p_ != '"' && *p_ != '\\' && static_cast<unsigned char>(*p_) >= 0x20) {
        if (static_cast<unsigned char>(*p_) < 0x80) {
          ++p_;
        } else {
          const std::size_t length = utf8_length(p_, end_);
          if (length == 0) fail("got " + here() + ", which is no valid UTF-8");
          p_ += length;
        }
      }
      out.append(start, p_);
      if (p_ == end_) fail("got the end of the file inside a string");
      if (*p_ == '"') {
        ++p_;
        return out;
      }
      if (*p_ != '\\') fail("got " + here() + " inside a string, expected an escape");
      ++p_;
      parse_escape(out);
    }
  }

  Json parse_array(int depth) {
    ++p_;
    Json::Array array;
    skip_space();
    if (consume(']')) return Json(std::move(array));
    for (;;) {
      array.push_back(parse_value(depth + 1));
      skip_space();
      if (consume(']')) return Json(std::move(array));
      if (!consume(',')) fail("got " + here() + ", expected , or ]");
    }
  }

  Json parse_object(int depth) {
    ++p_;
    JsonObject object;
    skip_space();
    if (consume('}')) return Json(std::move(object));
    for (;;) {
      skip_space();
      if (p_ == end_ || *p_ != '"') fail("got " + here() + ", expected a key in quotes");
      const char* start = p_;
      std::string key = parse_string();
      skip_space();
      if (!consume(':')) fail("got " + here() + ", expected :");
      Json value = parse_value(depth + 1);
      if (!object.append(std::move(key), std::move(value))) {
        p_ = start;
        fail("the key " + Json(parse_string()).dump({.ascii = false}) + " occurs twice");
      }
      skip_space();
      if (consume('}')) return Json(std::move(object));
      if (!consume(',')) fail("got " + here() + ", expected , or }");
    }
  }

  const char* begin_;
  const char* p_;
  const char* end_;
  const std::string& source_;
};

Json Json::parse(std::string_view text, const std::string& source) {
  return JsonParser(text, source).document();
}

}  // namespace moesmith::io
