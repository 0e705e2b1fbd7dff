// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/regex_syntax.h"

#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::text {
namespace {

// White_Space, the one class of Oniguruma's \s; PCRE2's also has U+180E.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"
    "\\x{3001}-\\x{10ffff}";
// PCRE2's \w has no marks.
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Outside a class Oniguruma's \w also takes Latin-1's superscripts and fractions.
constexpr std::string_view kBareWord =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr std::string_view kHex = "0-9a-fA-F";

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kCategories{{
    {"letter", "L"},
    {"mark", "M"},
    {"number", "N"},
    {"punctuation", "P"},
    {"punct", "P"},
    {"symbol", "S"},
    {"separator", "Z"},
    {"other", "C"},
    {"space", "White_Space"},
    {"alpha", "Alphabetic"},
}};
constexpr std::array<std::string_view, 8> kBinary{
    "any", "alphabetic", "uppercase", "lowercase", "white_space", "emoji", "upper", "lower"};

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& construct) const {
    throw Error(ErrorCode::kUnsupported, str(where_, ": the pattern \"", in_, "\" has ", construct,
                                             " at byte ", at_, ", which is not supported"));
  }

  bool sees(std::string_view text) const { return in_.substr(at_, text.size()) == text; }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0';
  }

  void atom(std::string_view text) {
    atom_ = out_.size();
    out_ += text;
  }

  void step() {
    const char c = peek();
    switch (c) {
      case '\\':
        return atom(escape());
      case '[':
        return atom(char_class());
      case '(':
        return open_group();
      case ')':
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        out_ += c;
        ++at_;
        return;
      case '{':
        return interval();
      case '*':
      case '+':
      case '?':
        out_ += c;
        ++at_;
        return;
      default:
        copy_character();
    }
  }

  void copy_character() {
    atom_ = out_.size();
    do {
      out_ += in_[at_++];
    } while (at_ < in_.size() && (static_cast<unsigned char>(in_[at_]) & 0xc0) == 0x80);
  }

  // Ruby has neither possessive nor, for {n}, lazy intervals: what follows repeats the whole.
  void interval() {
    const std::size_t close = in_.find('}', at_);
    const std::string_view body =
        close == std::string_view::npos ? "" : in_.substr(at_ + 1, close - at_ - 1);
    if (body.empty() || body == "," ||
        body.find_first_not_of("0123456789,") != std::string_view::npos) {
      refuse("a brace that opens no interval");
    }
    out_ += body.front() == ',' ? str("{0", body, "}") : str("{", body, "}");
    at_ = close + 1;
    const bool exact = body.find(',') == std::string_view::npos;
    if (peek() == '+' || (peek() == '?' && exact)) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  void open_group() {
    groups_.push_back(out_.size());
    static constexpr std::array<std::string_view, 6> kPlain{"(?:",  "(?=",  "(?!",
                                                            "(?<=", "(?<!", "(?>"};
    for (const std::string_view prefix : kPlain) {
      if (sees(prefix)) {
        out_ += prefix;
        at_ += prefix.size();
        return;
      }
    }
    if (!sees("(?")) {
      out_ += "(?:";  // no pattern of a tokenizer reads its captures
      ++at_;
      return;
    }
    options_group();
  }

  // (?i:...) and a leading (?i). Ruby's m is PCRE2's s.
  void options_group() {
    const bool leading = at_ == 0;
    std::string options = "(?";
    std::size_t i = at_ + 2;
    for (; i < in_.size() && (in_[i] == 'i' || in_[i] == 'm' || in_[i] == '-'); ++i) {
      options += in_[i] == 'm' ? 's' : in_[i];
    }
    const char end = i < in_.size() ? in_[i] : '\0';
    if (end == ')' && leading) {
      groups_.pop_back();
    } else if (end != ':') {
      refuse("a group that begins with \"" + std::string(in_.substr(at_, 4)) + "\"");
    }
    out_ += options + end;
    at_ = i + 1;
  }

  // An escape outside a class, as a PCRE2 atom.
  std::string escape() {
    const char c = peek(1);
    switch (c) {
      case 's':
        return taken(2, str("[", kSpace, "]"));
      case 'S':
        return taken(2, str("[^", kSpace, "]"));
      case 'w':
        return taken(2, str("[", kBareWord, "]"));
      case 'W':
        return taken(2, str("[^", kBareWord, "]"));
      case 'h':
        return taken(2, str("[", kHex, "]"));
      case 'H':
        return taken(2, str("[^", kHex, "]"));
      case 'b':
        return taken(2, str("(?:(?<=[", kBareWord, "])(?![", kBareWord, "])|(?<![", kBareWord,
                            "])(?=[", kBareWord, "]))"));
      case 'B':
        return taken(2, str("(?:(?<=[", kBareWord, "])(?=[", kBareWord, "])|(?<![", kBareWord,
                            "])(?![", kBareWord, "]))"));
      case 'A':
      case 'z':
      case 'Z':
        return taken(2, std::string("\\") + c);
      default:
        return character_escape();
    }
  }

  // Escapes that mean the same inside and outside a class.
  std::string character_escape() {
    const char c = peek(1);
    switch (c) {
      case 'p':
      case 'P':
        return property();
      case 'd':
        return taken(2, "\\p{Nd}");
      case 'D':
        return taken(2, "\\P{Nd}");
      case 'u':
        return code_point(2, 4);
      case 'x':
        return peek(2) == '{' ? braced_code_point() : code_point(2, 2);
      case 'v':
        return taken(2, "\\x{b}");
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return taken(2, std::string("\\") + c);
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (at_ + 1 >= in_.size() || std::isalnum(byte)) {
      refuse(std::string("the escape \"\\") + c + "\"");
    }
    if (byte < 0x80) return taken(2, std::string("\\") + c);
    return taken(1, "");  // a backslash before a non-ASCII letter says nothing
  }

  std::string taken(std::size_t length, std::string text) {
    at_ += length;
    return text;
  }

  std::string code_point(std::size_t skip, std::size_t digits) {
    const std::string hex(in_.substr(std::min(at_ + skip, in_.size()), digits));
    for (const char c : hex) {
      if (!std::isxdigit(static_cast<unsigned char>(c))) refuse("an incomplete code point");
    }
    // A two-digit escape is a byte to Oniguruma, and only in ASCII a character as well.
    if (hex.size() != digits || (digits == 2 && hex > "7f")) refuse("an incomplete code point");
    return taken(skip + digits, "\\x{" + hex + "}");
  }

  std::string braced_code_point() {
    const std::size_t close = in_.find('}', at_);
    if (close == std::string_view::npos) refuse("an incomplete code point");
    const std::string text(in_.substr(at_, close - at_ + 1));
    return taken(text.size(), text);
  }

  std::string property() {
    const std::size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("a property without braces");
    const char letter = peek(1);
    std::string name(in_.substr(at_ + 3, close - at_ - 3));
    at_ = close + 1;
    std::string caret;
    if (!name.empty() && name.front() == '^') {
      caret = "^";
      name.erase(0, 1);
    }
    std::string lower;
    for (const char c : name)
      lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    bool known = name.size() <= 2;  // a general category
    for (const auto& [onig, pcre2] : kCategories) {
      if (lower == onig) {
        name = pcre2;
        known = true;
      }
    }
    for (const std::string_view binary : kBinary) known = known || lower == binary;
    // Left to itself, PCRE2 reads a script's name as Script_Extensions.
    return str("\\", letter, "{", caret, known ? "" : "sc:", name, "}");
  }

  // A class that stands at in_[at_], as a PCRE2 atom. Nested classes are merged in, and an
  // intersection a && b becomes (?=a)b.
  std::string char_class() {
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    std::vector<std::string> factors;
    std::string items;
    bool lone_nested = false;  // the factor is one nested class and nothing else
    bool after_set = false;    // a hyphen here is no range
    for (bool first = true;; first = false) {
      if (at_ >= in_.size()) refuse("a class without its end");
      if (peek() == ']' && !first) break;
      if (sees("&&")) {
        factors.push_back(finished(items, lone_nested));
        items.clear();
        lone_nested = after_set = false;
        at_ += 2;
        continue;
      }
      class_item(items, lone_nested, after_set);
    }
    ++at_;
    if (factors.empty() && !lone_nested) return str(negated ? "[^" : "[", items, "]");
    factors.push_back(finished(items, lone_nested));
    std::string all;
    for (std::size_t i = 0; i + 1 < factors.size(); ++i) all += "(?=" + factors[i] + ")";
    all += factors.back();
    return negated ? "(?:(?!" + all + ")(?s:.))" : "(?:" + all + ")";
  }

  static std::string finished(const std::string& items, bool lone_nested) {
    return lone_nested ? items : "[" + items + "]";
  }

  void class_item(std::string& items, bool& lone_nested, bool& after_set) {
    if (lone_nested) refuse("a nested class beside other items");
    const char c = peek();
    if (c == '[' && peek(1) == ':') {
      items += posix_class();
      after_set = true;
    } else if (c == '[') {
      if (!items.empty()) refuse("a nested class beside other items");
      items = char_class();
      lone_nested = true;
    } else if (c == '\\') {
      after_set = is_set(1);
      items += class_escape();
    } else if (c == '-') {
      const bool range = !items.empty() && !after_set && peek(1) != ']' &&
                         !(peek(1) == '\\' && is_set(2)) && peek(1) != '[';
      items += range ? "-" : "\\-";
      ++at_;
      after_set = false;
    } else {
      if (c == ']') items += '\\';  // first in the class: itself
      items += c;
      ++at_;
      after_set = false;
    }
  }

  bool is_set(std::size_t ahead) const {
    return std::string_view("sSwWdDhHpP").find(peek(ahead)) != std::string_view::npos;
  }

  std::string class_escape() {
    switch (peek(1)) {
      case 's':
        return taken(2, std::string(kSpace));
      case 'S':
        return taken(2, std::string(kNotSpace));
      case 'w':
        return taken(2, std::string(kWord));
      case 'h':
        return taken(2, std::string(kHex));
      case 'b':
        return taken(2, "\\x{8}");
      case 'W':
      case 'H':
        refuse("a complement inside a class");
      default:
        return character_escape();
    }
  }

  std::string posix_class() {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kPosix{{
        {"[:alpha:]", "\\p{Alphabetic}"},
        {"[:digit:]", "\\p{Nd}"},
        {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:upper:]", "\\p{Uppercase}"},
        {"[:lower:]", "\\p{Lowercase}"},
        {"[:space:]", kSpace},
    }};
    for (const auto& [name, items] : kPosix) {
      if (sees(name)) return taken(name.size(), std::string(items));
    }
    refuse("this POSIX class");
  }

  std::string_view in_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;             // where in out_ the last atom starts
  std::vector<std::size_t> groups_;  // where in out_ the open groups start
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace moesmith::text
