// SPDX-License-Identifier: Apache-2.0
// Expressions, from the loosest operator to the tightest.
#include <algorithm>
#include <utility>

#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/nodes.h"
#include "text/jinja/parser.h"

namespace moesmith::text::jinja {
namespace {

void measure(Expr& expr, const ExprPtr& child) {
  if (child != nullptr) expr.depth = std::max(expr.depth, child->depth + 1);
}

}  // namespace

void Parser::deepen(Expr& expr) {
  for (const ExprPtr& part : expr.parts) measure(expr, part);
  for (const ExprPtr& part : expr.arguments.positional) measure(expr, part);
  for (const auto& [name, part] : expr.arguments.named) measure(expr, part);
  measure(expr, expr.arguments.star);
  measure(expr, expr.arguments.double_star);
  if (expr.depth > kMaxExprDepth) {
    throw Fault(ErrorCode::kUnsupported, str("an expression nests deeper than ", kMaxExprDepth),
                expr.line);
  }
}

ExprPtr Parser::make(ExprKind kind, int line, std::vector<ExprPtr> parts, std::string name) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  expr->parts = std::move(parts);
  expr->name = std::move(name);
  deepen(*expr);
  return expr;
}

ExprPtr Parser::expression(bool with_condition) {
  const Nest nest(*this);
  return with_condition ? condition() : disjunction();
}

// One expression, or several with commas: a tuple.
ExprPtr Parser::tuple(bool with_condition, std::string_view end_name, bool in_parentheses) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    const Token& token = current();
    const bool ends = token.kind == TokenKind::kVariableEnd || token.kind == TokenKind::kBlockEnd ||
                      token.is_operator(")") || (!end_name.empty() && token.is_name(end_name));
    if (ends) break;
    items.push_back(expression(with_condition));
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!in_parentheses) error("expected an expression, got " + current().describe());
  }
  return make(ExprKind::kTuple, line, std::move(items));
}

ExprPtr Parser::condition() {
  const int line = current().line;
  ExprPtr value = disjunction();
  while (skip_name("if")) {
    ExprPtr test = disjunction();
    ExprPtr otherwise;
    if (skip_name("else")) {
      const Nest nest(*this);
      otherwise = condition();
    }
    value = make(ExprKind::kCondition, line,
                 nodes(std::move(test), std::move(value), std::move(otherwise)));
  }
  return value;
}

ExprPtr Parser::disjunction() {
  const int line = current().line;
  ExprPtr left = conjunction();
  while (skip_name("or")) {
    ExprPtr right = conjunction();
    left = make(ExprKind::kOr, line, nodes(std::move(left), std::move(right)));
  }
  return left;
}

ExprPtr Parser::conjunction() {
  const int line = current().line;
  ExprPtr left = negation();
  while (skip_name("and")) {
    ExprPtr right = negation();
    left = make(ExprKind::kAnd, line, nodes(std::move(left), std::move(right)));
  }
  return left;
}

ExprPtr Parser::negation() {
  const int line = current().line;
  if (!skip_name("not")) return comparison();
  const Nest nest(*this);
  return make(ExprKind::kNot, line, nodes(negation()));
}

ExprPtr Parser::comparison() {
  const int line = current().line;
  std::vector<ExprPtr> parts = nodes(sum());
  std::vector<std::string> ops;
  while (true) {
    const Token& token = current();
    const bool orders = token.kind == TokenKind::kOperator &&
                        (token.text == "==" || token.text == "!=" || token.text == "<" ||
                         token.text == "<=" || token.text == ">" || token.text == ">=");
    if (orders) {
      ops.push_back(take().text);
    } else if (skip_name("in")) {
      ops.emplace_back("in");
    } else if (token.is_name("not") && look().is_name("in")) {
      at_ += 2;
      ops.emplace_back("not in");
    } else {
      break;
    }
    parts.push_back(sum());
  }
  if (ops.empty()) return std::move(parts[0]);
  ExprPtr expr = make(ExprKind::kCompare, line, std::move(parts));
  expr->ops = std::move(ops);
  return expr;
}

ExprPtr Parser::sum() {
  const int line = current().line;
  ExprPtr left = concatenation();
  while (current().is_operator("+") || current().is_operator("-")) {
    std::string op = take().text;
    ExprPtr right = concatenation();
    left = make(ExprKind::kArithmetic, line, nodes(std::move(left), std::move(right)), op);
  }
  return left;
}

ExprPtr Parser::concatenation() {
  const int line = current().line;
  std::vector<ExprPtr> parts = nodes(product());
  while (skip_operator("~")) parts.push_back(product());
  if (parts.size() == 1) return std::move(parts[0]);
  return make(ExprKind::kConcat, line, std::move(parts));
}

ExprPtr Parser::product() {
  const int line = current().line;
  ExprPtr left = power();
  while (current().is_operator("*") || current().is_operator("/") || current().is_operator("//") ||
         current().is_operator("%")) {
    std::string op = take().text;
    ExprPtr right = power();
    left = make(ExprKind::kArithmetic, line, nodes(std::move(left), std::move(right)), op);
  }
  return left;
}

ExprPtr Parser::power() {
  const int line = current().line;
  ExprPtr left = unary(true);
  while (skip_operator("**")) {
    ExprPtr right = unary(true);
    left = make(ExprKind::kArithmetic, line, nodes(std::move(left), std::move(right)), "**");
  }
  return left;
}

ExprPtr Parser::unary(bool with_filter) {
  const Nest nest(*this);
  const int line = current().line;
  ExprPtr value;
  if (skip_operator("-")) {
    value = make(ExprKind::kNegate, line, nodes(unary(false)));
  } else if (skip_operator("+")) {
    value = make(ExprKind::kPositive, line, nodes(unary(false)));
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filter ? filters_and_tests(std::move(value)) : std::move(value);
}

ExprPtr Parser::primary() {
  const Token& token = current();
  const int line = token.line;
  if (token.kind == TokenKind::kName) {
    const std::string name = take().text;
    ExprPtr expr = make(ExprKind::kConst, line, {});
    if (name == "true" || name == "True") {
      expr->value = true;
    } else if (name == "false" || name == "False") {
      expr->value = false;
    } else if (name != "none" && name != "None") {
      expr->kind = ExprKind::kName;
      expr->name = name;
      for (Uses& uses : macros_) {
        uses.caller |= name == "caller";
        uses.kwargs |= name == "kwargs";
        uses.varargs |= name == "varargs";
      }
    }
    return expr;
  }
  if (token.kind == TokenKind::kString) {
    std::string text;
    while (current().kind == TokenKind::kString) text += take().text;
    ExprPtr expr = make(ExprKind::kConst, line, {});
    expr->value = Value(std::move(text));
    return expr;
  }
  if (token.kind == TokenKind::kNumber) {
    ExprPtr expr = make(ExprKind::kConst, line, {});
    expr->value = take().number;
    return expr;
  }
  if (skip_operator("(")) {
    ExprPtr expr = tuple(true, "", true);
    expect_operator(")");
    return expr;
  }
  if (token.is_operator("[")) return list();
  if (token.is_operator("{")) return dict();
  error("expected an expression, got " + token.describe());
}

ExprPtr Parser::list() {
  const int line = take().line;
  std::vector<ExprPtr> items;
  while (!current().is_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    items.push_back(expression());
  }
  expect_operator("]");
  return make(ExprKind::kList, line, std::move(items));
}

ExprPtr Parser::dict() {
  const int line = take().line;
  std::vector<ExprPtr> parts;
  while (!current().is_operator("}")) {
    if (!parts.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    parts.push_back(expression());
    expect_operator(":");
    parts.push_back(expression());
  }
  expect_operator("}");
  return make(ExprKind::kDict, line, std::move(parts));
}

}  // namespace moesmith::text::jinja
