// SPDX-License-Identifier: Apache-2.0
// What follows a value: attributes, keys, calls, filters and tests.
#include <utility>

#include "text/jinja/fault.h"
#include "text/jinja/filters.h"
#include "text/jinja/nodes.h"
#include "text/jinja/parser.h"

namespace moesmith::text::jinja {

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
