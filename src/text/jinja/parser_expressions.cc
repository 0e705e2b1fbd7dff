// SPDX-License-Identifier: Apache-2.0
// Expressions, from the loosest operator to the tightest.
#include <algorithm>
#include <utility>

#include "text/jinja/fault.h"
#include "text/jinja/filters.h"
#include "text/jinja/limits.h"
#include "text/jinja/parser.h"

namespace moesmith::text::jinja {
namespace {

// A list of owned nodes; an initialiser list cannot hold them.
template <class... Parts>
std::vector<ExprPtr> nodes(Parts... parts) {
  std::vector<ExprPtr> out;
  (out.push_back(std::move(parts)), ...);
  return out;
}

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

ExprPtr Parser::postfix(ExprPtr value) {
  while (true) {
    if (current().is_operator(".") || current().is_operator("[")) {
      value = subscript(std::move(value));
    } else if (current().is_operator("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::filters_and_tests(ExprPtr value) {
  while (true) {
    if (skip_operator("|")) {
      value = filter(std::move(value));
    } else if (current().is_name("is")) {
      value = test(std::move(value));
    } else if (current().is_operator("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::subscript(ExprPtr value) {
  const int line = current().line;
  if (skip_operator(".")) {
    if (current().kind == TokenKind::kName) {
      return make(ExprKind::kGetattr, line, nodes(std::move(value)), take().text);
    }
    if (current().kind != TokenKind::kNumber || !current().number.is_int()) {
      error("expected a name or a number after '.', got " + current().describe());
    }
    ExprPtr key = make(ExprKind::kConst, line, {});
    key->value = take().number;
    return make(ExprKind::kGetitem, line, nodes(std::move(value), std::move(key)));
  }
  expect_operator("[");
  ExprPtr expr = index(std::move(value), line);
  expect_operator("]");
  return expr;
}

// What stands between the brackets: one key, several (a tuple), or a slice.
ExprPtr Parser::index(ExprPtr value, int line) {
  std::vector<ExprPtr> keys;
  while (!current().is_operator("]")) {
    if (!keys.empty()) expect_operator(",");
    ExprPtr first;
    if (!current().is_operator(":")) first = expression();
    if (!skip_operator(":")) {
      keys.push_back(std::move(first));
      continue;
    }
    const auto part = [&]() -> ExprPtr {
      const bool absent =
          current().is_operator(":") || current().is_operator("]") || current().is_operator(",");
      return absent ? nullptr : expression();
    };
    ExprPtr stop = part();
    ExprPtr step = skip_operator(":") ? part() : nullptr;
    if (!keys.empty() || current().is_operator(",")) error("a slice among several keys");
    return make(ExprKind::kSlice, line,
                nodes(std::move(value), std::move(first), std::move(stop), std::move(step)));
  }
  ExprPtr key;
  if (keys.size() == 1) {
    key = std::move(keys[0]);
  } else {
    key = make(ExprKind::kTuple, line, std::move(keys));
  }
  return make(ExprKind::kGetitem, line, nodes(std::move(value), std::move(key)));
}

CallArguments Parser::call_arguments() {
  const int line = current().line;
  expect_operator("(");
  CallArguments arguments;
  bool needs_comma = false;
  while (!current().is_operator(")")) {
    if (needs_comma) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    needs_comma = true;
    bool fits = arguments.double_star == nullptr;
    if (skip_operator("*")) {
      fits = fits && arguments.star == nullptr;
      arguments.star = expression();
    } else if (skip_operator("**")) {
      arguments.double_star = expression();
    } else if (current().kind == TokenKind::kName && look().is_operator("=")) {
      std::string name = take().text;
      at_ += 1;
      arguments.named.emplace_back(std::move(name), expression());
    } else {
      fits = fits && arguments.star == nullptr && arguments.named.empty();
      arguments.positional.push_back(expression());
    }
    if (!fits) error("the arguments of a call are in a wrong order", line);
  }
  expect_operator(")");
  return arguments;
}

ExprPtr Parser::call(ExprPtr value) {
  const int line = current().line;
  CallArguments arguments = call_arguments();
  ExprPtr expr = make(ExprKind::kCall, line, nodes(std::move(value)));
  expr->arguments = std::move(arguments);
  deepen(*expr);
  return expr;
}

// The filter behind a bar that is taken already.
ExprPtr Parser::filter(ExprPtr value) {
  const int line = current().line;
  const std::string name = expect_identifier();
  if (current().is_operator(".")) error("a filter name with a dot", line);
  ExprPtr expr = make(ExprKind::kFilter, line, nodes(std::move(value)), name);
  expr->filter = find_filter(name);
  if (expr->filter == nullptr) {
    const bool known = is_known_filter(name);
    throw Fault(known ? ErrorCode::kUnsupported : ErrorCode::kInvalidInput,
                str(known ? "this filter is not built: '" : "no filter named '", name, "'"), line);
  }
  if (current().is_operator("(")) expr->arguments = call_arguments();
  deepen(*expr);
  return expr;
}

ExprPtr Parser::test(ExprPtr value) {
  const int line = take().line;
  const bool negated = skip_name("not");
  const std::string name = expect_identifier();
  ExprPtr expr = make(ExprKind::kTest, line, nodes(std::move(value)), name);
  expr->test = find_test(name);
  if (expr->test == nullptr) error(str("no test named '", name, "'"), line);
  const Token& token = current();
  const bool takes_one = (token.kind == TokenKind::kName && !token.is_name("else") &&
                          !token.is_name("or") && !token.is_name("and")) ||
                         token.kind == TokenKind::kString || token.kind == TokenKind::kNumber ||
                         token.is_operator("[") || token.is_operator("{");
  if (token.is_operator("(")) {
    expr->arguments = call_arguments();
  } else if (takes_one) {
    if (token.is_name("is")) error("tests cannot be chained with 'is'");
    expr->arguments.positional.push_back(postfix(primary()));
  }
  deepen(*expr);
  return negated ? make(ExprKind::kNot, line, nodes(std::move(expr))) : std::move(expr);
}

}  // namespace moesmith::text::jinja
