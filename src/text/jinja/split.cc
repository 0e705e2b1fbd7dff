// SPDX-License-Identifier: Apache-2.0
// str.split and its kin.
#include <algorithm>

#include "text/jinja/characters.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {

std::vector<std::string> split(std::string_view text, std::int64_t limit) {
  std::vector<std::string> out;
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.emplace_back(text);
      break;
    }
    std::size_t at = 0;
    while (at < text.size()) {
      std::size_t next = at;
      if (is_space(unicode::next(text, next))) break;
      at = next;
    }
    out.emplace_back(text.substr(0, at));
    text = strip(text.substr(at), Side::kLeft);
  }
  return out;
}

std::vector<std::string> split(std::string_view text, std::string_view by, std::int64_t limit) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
    const std::size_t found = text.find(by, begin);
    if (found == std::string_view::npos) break;
    out.emplace_back(text.substr(begin, found - begin));
    begin = found + by.size();
  }
  out.emplace_back(text.substr(begin));
  return out;
}

std::vector<std::string> rsplit(std::string_view text, std::int64_t limit) {
  std::vector<std::string> out;
  text = strip(text, Side::kRight);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.emplace_back(text);
      break;
    }
    std::size_t at = text.size();
    while (at > 0) {
      const std::size_t before = unicode::previous(text, at);
      std::size_t next = before;
      if (is_space(unicode::next(text, next))) break;
      at = before;
    }
    out.emplace_back(text.substr(at));
    text = strip(text.substr(0, at), Side::kRight);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> rsplit(std::string_view text, std::string_view by, std::int64_t limit) {
  std::vector<std::string> out;
  while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
    const std::size_t found = text.rfind(by);
    if (found == std::string_view::npos) break;
    out.emplace_back(text.substr(found + by.size()));
    text = text.substr(0, found);
  }
  out.emplace_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = unicode::next(text, at);
    const bool breaks = (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.emplace_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) out.emplace_back(text.substr(begin));
  return out;
}

std::string replace(std::string_view text,
                    std::string_view old,
                    std::string_view by,
                    std::int64_t limit) {
  std::string out;
  std::size_t begin = 0;
  for (std::int64_t done = 0; limit < 0 || done < limit; ++done) {
    if (old.empty()) {  // before each character and at the end
      out += by;
      if (begin == text.size()) return out;
      std::size_t next = begin;
      unicode::next(text, next);
      out += text.substr(begin, next - begin);
      begin = next;
      continue;
    }
    const std::size_t found = text.find(old, begin);
    if (found == std::string_view::npos) break;
    out += text.substr(begin, found - begin);
    out += by;
    begin = found + old.size();
  }
  out += text.substr(begin);
  return out;
}

}  // namespace moesmith::text::jinja
