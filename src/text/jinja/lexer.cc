// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/lexer_literals.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

// \r\n and \r become \n; one newline at the very end is dropped, as jinja2 does.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalize_newlines(source)), source_(text_) {}

  std::vector<Token> run() {
    try {
      while (at_ < source_.size()) root();
    } catch (const Fault& fault) {
      throw Fault(fault.code(), fault.what(), fault.line() == 0 ? line_ : fault.line());
    }
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& what) const {
    throw Fault(ErrorCode::kInvalidInput, what, line_);
  }

  void push(TokenKind kind, std::string text) {
    tokens_.push_back({kind, line_, std::move(text), {}});
  }

  bool starts(std::string_view what) const { return source_.substr(at_).starts_with(what); }

  void advance(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) line_ += source_[at_ + i] == '\n';
    at_ += count;
    line_starting_ = count > 0 && source_[at_ - 1] == '\n';
  }

  // Bytes of white space at `from`.
  std::size_t space_at(std::size_t from) const {
    const std::string_view rest = source_.substr(from);
    return rest.size() - strip(rest, Side::kLeft).size();
  }

  std::size_t next_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i) {
      if (source_[i] == '{' &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) {
        return i;
      }
    }
    return kNone;
  }

  // Length of "{% raw %}" at the cursor with its control characters, 0 when it is not there.
  std::size_t raw_begin() const {
    std::size_t i = at_ + 2;
    if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
    i += space_at(i);
    if (!source_.substr(i).starts_with("raw")) return 0;
    i += 3;
    i += space_at(i);
    if (source_.substr(i).starts_with("-%}")) return i + 3 + space_at(i + 3) - at_;
    return source_.substr(i).starts_with("%}") ? i + 2 - at_ : 0;
  }

  // Data before a tag, cut by the tag's control character or by lstrip_blocks.
  void data(std::string_view text, char sign, bool is_variable) {
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip(text, Side::kRight);
    } else if (sign != '+' && !is_variable) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t begin = newline == kNone ? 0 : newline + 1;
      const bool blank = begin < text.size() && strip(text.substr(begin), Side::kLeft).empty();
      if ((begin > 0 || line_starting_) && blank) kept = text.substr(0, begin);
    }
    if (!kept.empty()) push(TokenKind::kData, std::string(kept));
    advance(text.size());
  }

  char sign_at(std::size_t i) const {
    const char c = i < source_.size() ? source_[i] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  void root() {
    const std::size_t tag = next_tag();
    if (tag == kNone) {
      push(TokenKind::kData, std::string(source_.substr(at_)));
      advance(source_.size() - at_);
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    data(source_.substr(at_, tag - at_), sign, kind == '{');
    if (kind == '%') {
      if (const std::size_t length = raw_begin()) return raw(length);
    }
    if (kind != '#') push(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
    advance(sign == '\0' ? 2 : 3);
    if (kind == '#') return comment();
    inside(kind == '{');
  }

  // Behind the end of a block or comment: "-" takes all white space, "" one newline, "+" nothing.
  void after_end(char sign) {
    if (sign == '-') {
      advance(space_at(at_));
    } else if (sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      advance(1);
    }
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == kNone) error("the comment is not closed with #}");
    const char sign = end > at_ ? sign_at(end - 1) : '\0';
    advance(end + 2 - at_);
    after_end(sign);
  }

  void raw(std::size_t begin_length) {
    advance(begin_length);
    for (std::size_t tag = source_.find("{%", at_); tag != kNone;
         tag = source_.find("{%", tag + 1)) {
      std::size_t i = tag + 2;
      const char sign = sign_at(i);
      if (sign != '\0') ++i;
      i += space_at(i);
      if (!source_.substr(i).starts_with("endraw")) continue;
      i += 6;
      i += space_at(i);
      const char end_sign = sign_at(i);
      if (end_sign != '\0') ++i;
      if (!source_.substr(i).starts_with("%}")) continue;
      data(source_.substr(at_, tag - at_), sign, false);
      advance(i + 2 - at_);
      after_end(end_sign);
      return;
    }
    error("{% raw %} is not closed with {% endraw %}");
  }

  // "%}" or "}}" with its control character; false when it is not here.
  bool end_tag(bool is_variable) {
    const std::string_view end = is_variable ? "}}" : "%}";
    char sign = sign_at(at_);
    if (sign == '+' && is_variable) sign = '\0';
    const std::size_t length = sign == '\0' ? 2 : 3;
    if (!source_.substr(std::min(at_ + length - 2, source_.size())).starts_with(end)) return false;
    push(is_variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
    advance(length);
    if (sign == '-' || !is_variable) after_end(sign);
    return true;
  }

  void inside(bool is_variable) {
    std::string open;
    while (true) {
      if (at_ >= source_.size()) {
        error(is_variable ? "the expression is not closed with }}"
                          : "the tag is not closed with %}");
      }
      if (open.empty() && end_tag(is_variable)) return;
      if (const std::size_t space = space_at(at_)) {
        advance(space);
      } else {
        token(open);
      }
    }
  }

  void token(std::string& open) {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    Token token{TokenKind::kNumber, line_, "", {}};
    if (const std::size_t length = number_literal(source_.substr(at_), after_dot, token.number)) {
      tokens_.push_back(std::move(token));
      return advance(length);
    }
    if (const std::size_t length = name_length(source_.substr(at_))) {
      push(TokenKind::kName, std::string(source_.substr(at_, length)));
      return advance(length);
    }
    const char c = source_[at_];
    if (c == '\'' || c == '"') {
      std::size_t end = at_ + 1;
      while (end < source_.size() && source_[end] != c) end += source_[end] == '\\' ? 2 : 1;
      if (end >= source_.size()) error("the string is not closed");
      push(TokenKind::kString, unescape(source_.substr(at_ + 1, end - at_ - 1)));
      return advance(end + 1 - at_);
    }
    operator_token(open);
  }

  void operator_token(std::string& open) {
    constexpr std::array<std::string_view, 26> kOperators{
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!starts(op)) continue;
      if (op == "(") open += ')';
      if (op == "[") open += ']';
      if (op == "{") open += '}';
      if (op == ")" || op == "]" || op == "}") {
        if (open.empty()) error(str("unexpected '", op, "'"));
        if (open.back() != op[0]) error(str("unexpected '", op, "', expected '", open.back(), "'"));
        open.pop_back();
      }
      push(TokenKind::kOperator, std::string(op));
      return advance(op.size());
    }
    std::size_t end = at_;
    unicode::next(source_, end);
    error(str("unexpected character '", source_.substr(at_, end - at_), "'"));
  }

  std::string text_;
  std::string_view source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::string Token::describe() const {
  switch (kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kNumber:
      return "a number";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return "'" + text + "'";
  }
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace moesmith::text::jinja
