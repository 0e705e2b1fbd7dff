// SPDX-License-Identifier: Apache-2.0
// Text, {{ }} and {% %}.
#include <algorithm>
#include <utility>

#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/parser.h"

namespace moesmith::text::jinja {
namespace {

bool is_any(const Token& token, std::initializer_list<std::string_view> names) {
  return token.kind == TokenKind::kName &&
         std::find(names.begin(), names.end(), token.text) != names.end();
}

std::string one_of(std::initializer_list<std::string_view> names) {
  std::string out;
  for (const std::string_view name : names) {
    out += out.empty() ? "" : " or ";
    out += "'";
    out += name;
    out += "'";
  }
  return out;
}

}  // namespace

Parser::Nest::Nest(Parser& parser) : parser_(parser) {
  if (++parser_.nesting_ > kMaxNesting) {
    const int line = parser_.current().line;
    --parser_.nesting_;
    throw Fault(ErrorCode::kUnsupported, str("the template nests deeper than ", kMaxNesting), line);
  }
}

Token Parser::take() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

bool Parser::skip_operator(std::string_view op) {
  if (!current().is_operator(op)) return false;
  take();
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) error(str("expected '", op, "', got ", current().describe()));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) error(str("expected '", name, "', got ", current().describe()));
}

std::string Parser::expect_identifier() {
  if (current().kind != TokenKind::kName) error("expected a name, got " + current().describe());
  return take().text;
}

void Parser::expect_kind(TokenKind kind, std::string_view what) {
  if (current().kind != kind) error(str("expected ", what, ", got ", current().describe()));
  take();
}

void Parser::error(const std::string& what, int line) const {
  throw Fault(ErrorCode::kInvalidInput, what, line == 0 ? current().line : line);
}

std::unique_ptr<Stmt> Parser::make(StmtKind kind, int line) const {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

Body Parser::parse() { return statements("", 1, {}); }

// Up to one of `ends`, whose name stays the current token; without `ends` up to the end.
Body Parser::statements(std::string_view tag,
                        int opened,
                        std::initializer_list<std::string_view> ends) {
  Body body;
  while (true) {
    const Token& token = current();
    if (token.kind == TokenKind::kEnd) {
      if (ends.size() == 0) return body;
      error(str("the template ends inside '", tag, "' of line ", opened, ", expected ",
                one_of(ends)));
    }
    if (token.kind == TokenKind::kData) {
      body.push_back(make(StmtKind::kText, token.line));
      body.back()->text = take().text;
    } else if (token.kind == TokenKind::kVariableBegin) {
      take();
      body.push_back(make(StmtKind::kOutput, current().line));
      body.back()->expr = tuple(true, "", false);
      expect_kind(TokenKind::kVariableEnd, "'}}'");
    } else {
      expect_kind(TokenKind::kBlockBegin, "'{%'");
      if (is_any(current(), ends)) return body;
      if (current().is_name("print")) {
        parse_print(body);
      } else {
        body.push_back(statement());
      }
      expect_kind(TokenKind::kBlockEnd, "'%}'");
    }
  }
}

// The body behind a tag that is not closed yet.
Body Parser::nested(std::string_view tag, std::initializer_list<std::string_view> ends) {
  const Nest nest(*this);
  const int opened = current().line;
  skip_operator(":");
  expect_kind(TokenKind::kBlockEnd, "'%}'");
  return statements(tag, opened, ends);
}

std::unique_ptr<Stmt> Parser::statement() {
  const Token& token = current();
  if (token.is_name("if")) return parse_if();
  if (token.is_name("for")) return parse_for();
  if (token.is_name("set")) return parse_set();
  if (token.is_name("with")) return parse_with();
  if (token.is_name("macro")) return parse_macro();
  if (token.is_name("call")) return parse_call_block();
  if (token.is_name("filter")) return parse_filter_block();
  if (token.is_name("generation")) return parse_generation();
  if (is_any(token, {"break", "continue"})) return parse_loop_control();
  if (is_any(token, {"block", "extends", "include", "import", "from", "autoescape", "do", "trans",
                     "debug"})) {
    throw Fault(ErrorCode::kUnsupported, "this tag is not built: '" + token.text + "'", token.line);
  }
  if (token.kind != TokenKind::kName) error("expected a tag's name, got " + token.describe());
  error("no tag named '" + token.text + "' here");
}

std::unique_ptr<Stmt> Parser::parse_if() {
  auto stmt = make(StmtKind::kIf, take().line);
  while (true) {
    stmt->exprs.push_back(tuple(false, "", false));
    stmt->bodies.push_back(nested("if", {"elif", "else", "endif"}));
    const std::string end = take().text;
    if (end == "elif") continue;
    if (end == "else") {
      stmt->bodies.push_back(nested("else", {"endif"}));
      take();
    }
    return stmt;
  }
}

std::unique_ptr<Stmt> Parser::parse_for() {
  auto stmt = make(StmtKind::kFor, take().line);
  stmt->targets.push_back(parse_target(false));
  if (stmt->targets[0].name == "loop") error("the variable of a for loop cannot be named 'loop'");
  expect_name("in");
  stmt->expr = tuple(false, "recursive", false);
  if (skip_name("if")) stmt->condition = expression();
  stmt->recursive = skip_name("recursive");
  ++loops_;
  stmt->bodies.push_back(nested("for", {"endfor", "else"}));
  --loops_;
  if (take().text == "else") {
    stmt->bodies.push_back(nested("else", {"endfor"}));
    take();
  }
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_set() {
  auto stmt = make(StmtKind::kSet, take().line);
  stmt->targets.push_back(parse_target(true));
  if (skip_operator("=")) {
    stmt->expr = tuple(true, "", false);
    return stmt;
  }
  stmt->kind = StmtKind::kSetBlock;
  while (skip_operator("|")) stmt->expr = filter(std::move(stmt->expr));
  stmt->bodies.push_back(nested("set", {"endset"}));
  take();
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_with() {
  auto stmt = make(StmtKind::kWith, take().line);
  while (current().kind != TokenKind::kBlockEnd && !current().is_operator(":")) {
    if (!stmt->targets.empty()) expect_operator(",");
    stmt->targets.push_back(one_target());
    expect_operator("=");
    stmt->exprs.push_back(expression());
  }
  stmt->bodies.push_back(nested("with", {"endwith"}));
  take();
  return stmt;
}

void Parser::parse_signature(MacroSignature& signature) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!signature.parameters.empty()) expect_operator(",");
    signature.parameters.push_back(expect_identifier());
    if (skip_operator("=")) {
      signature.defaults.push_back(expression());
    } else if (!signature.defaults.empty()) {
      error("a parameter without a default follows one with a default");
    }
  }
  expect_operator(")");
}

Body Parser::macro_body(std::string_view tag, std::string_view end, MacroSignature& signature) {
  macros_.emplace_back();
  const int loops = std::exchange(loops_, 0);
  Body body = nested(tag, {end});
  loops_ = loops;
  take();
  signature.uses_caller = macros_.back().caller;
  signature.uses_kwargs = macros_.back().kwargs;
  signature.uses_varargs = macros_.back().varargs;
  macros_.pop_back();
  return body;
}

std::unique_ptr<Stmt> Parser::parse_macro() {
  auto stmt = make(StmtKind::kMacro, take().line);
  stmt->signature.name = expect_identifier();
  parse_signature(stmt->signature);
  stmt->bodies.push_back(macro_body("macro", "endmacro", stmt->signature));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_call_block() {
  auto stmt = make(StmtKind::kCall, take().line);
  stmt->signature.name = "caller";
  if (current().is_operator("(")) parse_signature(stmt->signature);
  stmt->expr = expression();
  if (stmt->expr->kind != ExprKind::kCall) error("expected a call in '{% call %}'", stmt->line);
  stmt->bodies.push_back(macro_body("call", "endcall", stmt->signature));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_filter_block() {
  auto stmt = make(StmtKind::kFilter, take().line);
  stmt->expr = filter(nullptr);
  while (skip_operator("|")) stmt->expr = filter(std::move(stmt->expr));
  stmt->bodies.push_back(nested("filter", {"endfilter"}));
  take();
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_generation() {
  auto stmt = make(StmtKind::kScope, take().line);
  const int loops = std::exchange(loops_, 0);
  stmt->bodies.push_back(nested("generation", {"endgeneration"}));
  loops_ = loops;
  take();
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_loop_control() {
  const Token token = take();
  if (loops_ == 0) error("'" + token.text + "' outside of a for loop", token.line);
  return make(token.text == "break" ? StmtKind::kBreak : StmtKind::kContinue, token.line);
}

void Parser::parse_print(Body& body) {
  const int line = take().line;
  bool first = true;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!std::exchange(first, false)) expect_operator(",");
    body.push_back(make(StmtKind::kOutput, line));
    body.back()->expr = expression();
  }
}

Target Parser::one_target() {
  const Nest nest(*this);
  Target target;
  if (skip_operator("(")) {
    bool is_tuple = false;
    while (!current().is_operator(")")) {
      target.unpack.push_back(one_target());
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    expect_operator(")");
    if (target.unpack.size() == 1 && !is_tuple) {
      Target only = std::move(target.unpack[0]);
      return only;
    }
    if (target.unpack.empty()) error("cannot assign to ()");
    return target;
  }
  target.name = expect_identifier();
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (target.name == constant) error("cannot assign to '" + target.name + "'");
  }
  return target;
}

// `a`, `a, b`, `(a, b)`, and where it may be one `namespace.a`.
Target Parser::parse_target(bool may_be_attribute) {
  if (may_be_attribute && look().is_operator(".")) {
    Target target;
    target.name = expect_identifier();
    take();
    target.attribute = expect_identifier();
    return target;
  }
  Target first = one_target();
  if (!current().is_operator(",")) return first;
  Target tuple;
  tuple.unpack.push_back(std::move(first));
  while (skip_operator(",")) {
    if (current().kind != TokenKind::kName && !current().is_operator("(")) break;
    if (current().is_name("in")) break;
    tuple.unpack.push_back(one_target());
  }
  return tuple;
}

}  // namespace moesmith::text::jinja
