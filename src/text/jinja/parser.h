// SPDX-License-Identifier: Apache-2.0
// Tokens -> tree: jinja2's grammar with the tags that a single template can use.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace moesmith::text::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Throws Fault with its line.
  Body parse();

 private:
  // What the body of the innermost macro or call block mentions.
  struct Uses {
    bool caller = false, kwargs = false, varargs = false;
  };

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();
  bool skip_name(std::string_view name);
  bool skip_operator(std::string_view op);
  void expect_operator(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect_kind(TokenKind kind, std::string_view what);
  [[noreturn]] void error(const std::string& what, int line = 0) const;

  // parser_statements.cc
  Body statements(std::string_view tag, int opened, std::initializer_list<std::string_view> ends);
  Body nested(std::string_view tag, std::initializer_list<std::string_view> ends);
  std::unique_ptr<Stmt> statement();
  std::unique_ptr<Stmt> make(StmtKind kind, int line) const;
  std::unique_ptr<Stmt> parse_if();
  std::unique_ptr<Stmt> parse_for();
  std::unique_ptr<Stmt> parse_set();
  std::unique_ptr<Stmt> parse_with();
  std::unique_ptr<Stmt> parse_macro();
  std::unique_ptr<Stmt> parse_call_block();
  std::unique_ptr<Stmt> parse_filter_block();
  std::unique_ptr<Stmt> parse_generation();
  std::unique_ptr<Stmt> parse_loop_control();
  void parse_print(Body& body);
  void parse_signature(MacroSignature& signature);
  Body macro_body(std::string_view tag, std::string_view end, MacroSignature& signature);
  Target parse_target(bool may_be_attribute);
  Target one_target();

  // parser_expressions.cc
  static void deepen(Expr& expr);
  ExprPtr make(ExprKind kind, int line, std::vector<ExprPtr> parts, std::string name = "") const;
  ExprPtr expression(bool with_condition = true);
  ExprPtr tuple(bool with_condition, std::string_view end_name, bool in_parentheses);
  ExprPtr condition();
  ExprPtr disjunction();
  ExprPtr conjunction();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filter);
  ExprPtr primary();
  ExprPtr list();
  ExprPtr dict();

  // parser_postfix.cc
  ExprPtr postfix(ExprPtr value);
  ExprPtr filters_and_tests(ExprPtr value);
  ExprPtr subscript(ExprPtr value);
  ExprPtr index(ExprPtr value, int line);
  ExprPtr call(ExprPtr value);
  ExprPtr filter(ExprPtr value);
  ExprPtr test(ExprPtr value);
  CallArguments call_arguments();

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;  // that a break would leave
  std::vector<Uses> macros_;

  class Nest;  // counts nesting_ while it lives
};

class Parser::Nest {
 public:
  explicit Nest(Parser& parser);
  ~Nest() { --parser_.nesting_; }
  Nest(const Nest&) = delete;
  Nest& operator=(const Nest&) = delete;

 private:
  Parser& parser_;
};

}  // namespace moesmith::text::jinja
