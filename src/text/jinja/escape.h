// SPDX-License-Identifier: Apache-2.0
// markupsafe.escape.
#pragma once

#include <string>
#include <string_view>

namespace moesmith::text::jinja {

inline std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace moesmith::text::jinja
