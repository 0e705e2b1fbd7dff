// SPDX-License-Identifier: Apache-2.0
// Json::dump: the bytes that Python's json.dumps writes for the same value.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "io/json.h"

namespace moesmith::io {
namespace {

void append_hex4(std::string& out, unsigned code) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[(code >> shift) & 15u];
}

// One code point of valid UTF-8 at `i`, which moves behind it.
unsigned next_code_point(const std::string& text, std::size_t& i) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(i);
  const std::size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (i + length > text.size()) {
    ++i;
    return 0xfffd;
  }
  unsigned code = length == 1 ? first : first & (0x7fu >> length);
  for (std::size_t k = 1; k < length; ++k) code = code << 6 | (byte(i + k) & 0x3fu);
  i += length;
  return code;
}

void append_string(std::string& out, const std::string& text, bool ascii) {
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x80 && ascii) {
      const unsigned code = next_code_point(text, i);
      if (code < 0x10000) {
        append_hex4(out, code);
      } else {
        append_hex4(out, 0xd800u + ((code - 0x10000u) >> 10));
        append_hex4(out, 0xdc00u + ((code - 0x10000u) & 0x3ffu));
      }
      continue;
    }
    ++i;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (c < 0x20) {
          append_hex4(out, c);
        } else {
          out += static_cast<char>(c);
        }
    }
  }
  out += '"';
}

// Python's repr: the shortest digits that read back, in decimal for 1e-4 <= |x| < 1e16.
void append_double(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    out += value > 0 ? "Infinity" : "-Infinity";
    return;
  }
  char buffer[64];
  const double size = std::fabs(value);
  const bool decimal = value == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 decimal ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  out.append(buffer, end);
  if (decimal && std::find(buffer, end, '.') == end) out += ".0";
}

class Dumper {
 public:
  explicit Dumper(const JsonFormat& format) : format_(format) {}

  void write(const Json& value, int depth) {
    if (value.is_null()) {
      out_ += "null";
    } else if (value.is_bool()) {
      out_ += value.as_bool() ? "true" : "false";
    } else if (value.is_integer()) {
      out_ += std::to_string(value.as_integer());
    } else if (value.is_double()) {
      append_double(out_, value.as_number());
    } else if (value.is_string()) {
      append_string(out_, value.as_string(), format_.ascii);
    } else if (value.is_array()) {
      write_array(value.as_array(), depth);
    } else {
      write_object(value.as_object(), depth);
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void separate(bool first, int depth) {
    if (!first) out_ += format_.indent < 0 && format_.spaces ? ", " : ",";
    new_line(depth);
  }

  void new_line(int depth) {
    if (format_.indent < 0) return;
    out_ += '\n';
    out_.append(static_cast<std::size_t>(format_.indent) * static_cast<std::size_t>(depth), ' ');
  }

  void write_array(const Json::Array& array, int depth) {
    out_ += '[';
    for (std::size_t i = 0; i < array.size(); ++i) {
      separate(i == 0, depth + 1);
      write(array[i], depth + 1);
    }
    if (!array.empty()) new_line(depth);
    out_ += ']';
  }

  void write_object(const JsonObject& object, int depth) {
    std::vector<std::size_t> order(object.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (format_.sort_keys) {  // UTF-8 sorts by bytes as by code points
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return object.key(a) < object.key(b); });
    }
    out_ += '{';
    bool first = true;
    for (const std::size_t i : order) {
      separate(first, depth + 1);
      first = false;
      append_string(out_, object.key(i), format_.ascii);
      out_ += format_.indent >= 0 || format_.spaces ? ": " : ":";
      write(object.value(i), depth + 1);
    }
    if (!object.empty()) new_line(depth);
    out_ += '}';
  }

  JsonFormat format_;
  std::string out_;
};

}  // namespace

std::string Json::dump(const JsonFormat& format) const {
  Dumper dumper(format);
  dumper.write(*this, 0);
  return dumper.take();
}

}  // namespace moesmith::io
