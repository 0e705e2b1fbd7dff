// SPDX-License-Identifier: Apache-2.0
// Expressions.
#include "text/jinja/fault.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {

class Interpreter::EvalDepth {
 public:
  explicit EvalDepth(int& depth) : depth_(depth) {
    if (depth_ >= kMaxEvalDepth) unsupported("evaluation nests deeper than ", kMaxEvalDepth);
    ++depth_;
  }
  ~EvalDepth() { --depth_; }
  EvalDepth(const EvalDepth&) = delete;
  EvalDepth& operator=(const EvalDepth&) = delete;

 private:
  int& depth_;
};

Value Interpreter::evaluate(const Expr& expr) {
  charge(1);
  if (expr.kind == ExprKind::kConst) return expr.value;
  const EvalDepth depth(eval_depth_);
  return unlimited_evaluate(expr);
}

Value Interpreter::unlimited_evaluate(const Expr& expr) {
  line_ = expr.line;
  const auto part = [&](std::size_t i) { return evaluate(*expr.parts[i]); };
  switch (expr.kind) {
    case ExprKind::kConst:
      return expr.value;
    case ExprKind::kName:
      return evaluate_name(expr);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      Items items;
      for (const ExprPtr& item : expr.parts) items.push_back(evaluate(*item));
      return list(std::move(items),
                  expr.kind == ExprKind::kList ? SequenceKind::kList : SequenceKind::kTuple);
    }
    case ExprKind::kDict:
      return evaluate_dict(expr);
    case ExprKind::kGetattr:
      return attribute(part(0), expr.name);
    case ExprKind::kGetitem: {
      const Value value = part(0);
      return item(value, part(1));
    }
    case ExprKind::kSlice: {
      const Value value = part(0);
      Value bounds[3];
      const Value* given[3] = {};
      for (std::size_t i = 0; i < 3; ++i) {
        if (expr.parts[i + 1] == nullptr) continue;
        bounds[i] = part(i + 1);
        given[i] = &bounds[i];
      }
      charge(value.is_string() || value.is_sequence() ? length(value) / 16 : 0);
      return slice(value, given[0], given[1], given[2]);
    }
    case ExprKind::kCall:
      return evaluate_call(expr);
    case ExprKind::kFilter:
      return apply_filter(expr, part(0));
    case ExprKind::kTest: {
      const Value value = part(0);
      return expr.test->apply(*this, value, evaluate(expr.arguments));
    }
    case ExprKind::kNot:
      return !truthy(part(0));
    case ExprKind::kNegate:
      return negate(part(0));
    case ExprKind::kPositive:
      return positive(part(0));
    case ExprKind::kArithmetic: {
      const Value left = part(0);
      const Value result = arithmetic(expr.name, left, part(1));
      if (result.is_string()) charge(static_cast<std::int64_t>(result.string().size() / 16));
      if (result.is_sequence()) charge(static_cast<std::int64_t>(result.items().size()));
      return result;
    }
    case ExprKind::kConcat:
      return evaluate_concat(expr);
    case ExprKind::kCompare:
      return evaluate_compare(expr);
    case ExprKind::kAnd: {
      Value left = part(0);
      return truthy(left) ? part(1) : left;
    }
    case ExprKind::kOr: {
      Value left = part(0);
      return truthy(left) ? left : part(1);
    }
    case ExprKind::kCondition:
      if (truthy(part(0))) return part(1);
      if (expr.parts[2] != nullptr) return part(2);
      return Value::undefined(str("the inline if-expression on line ", expr.line,
                                  " evaluated to false and no else section was defined."));
  }
  return Value();
}

Value Interpreter::evaluate_name(const Expr& expr) {
  if (const Value* value = scope_->find(expr.name)) return *value;
  return Value::undefined("'" + expr.name + "' is undefined");
}

Value Interpreter::evaluate_dict(const Expr& expr) {
  std::vector<std::pair<Value, Value>> entries;
  for (std::size_t i = 0; i < expr.parts.size(); i += 2) {
    Value key = evaluate(*expr.parts[i]);
    entries.emplace_back(std::move(key), evaluate(*expr.parts[i + 1]));
  }
  charge(static_cast<std::int64_t>(entries.size()));
  return Value::dict(std::move(entries));
}

Value Interpreter::evaluate_concat(const Expr& expr) {
  std::string out;
  for (const ExprPtr& part : expr.parts) {
    out += to_string(evaluate(*part));
    check_size(out);
  }
  return text(std::move(out));
}

Value Interpreter::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.parts[0]);
  for (std::size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = evaluate(*expr.parts[i + 1]);
    charge((left.weight() + right.weight()) / 4);
    if (!compare(expr.ops[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Arguments Interpreter::evaluate(const CallArguments& arguments) {
  Arguments out;
  for (const ExprPtr& expr : arguments.positional) out.positional.push_back(evaluate(*expr));
  for (const auto& [name, expr] : arguments.named) out.named.emplace_back(name, evaluate(*expr));
  if (arguments.star != nullptr) {
    for (Value& value : iterate(evaluate(*arguments.star))) {
      out.positional.push_back(std::move(value));
    }
    charge(static_cast<std::int64_t>(out.positional.size()));
  }
  if (arguments.double_star != nullptr) {
    const Value more = evaluate(*arguments.double_star);
    if (!more.is_dict()) fail("argument after ** must be a mapping, not ", type_name(more));
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) fail("keywords must be strings");
      if (out.find(key.string()) != nullptr) {
        fail("got multiple values for keyword argument ", repr(key));
      }
      out.named.emplace_back(key.string(), value);
    }
  }
  return out;
}

Value Interpreter::evaluate_call(const Expr& expr) {
  const Expr& callee = *expr.parts[0];
  if (callee.kind == ExprKind::kGetattr) {
    const Value self = evaluate(*callee.parts[0]);
    const Arguments arguments = evaluate(expr.arguments);
    line_ = expr.line;
    return call_method(self, callee.name, arguments);
  }
  const Value function = evaluate(callee);
  const Arguments arguments = evaluate(expr.arguments);
  line_ = expr.line;
  return call(function, arguments);
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) fail(callee.why_undefined().message);
  if (!callee.is_object()) fail("'", type_name(callee), "' object is not callable");
  const std::shared_ptr<Object> object = callee.object();
  return object->call(*this, arguments);
}

Value Interpreter::apply_filter(const Expr& filter, const Value& value) {
  const Arguments arguments = evaluate(filter.arguments);
  line_ = filter.line;
  if (value.is_string()) charge(static_cast<std::int64_t>(value.string().size() / 16));
  if (value.is_sequence()) charge(static_cast<std::int64_t>(value.items().size()));
  return filter.filter->apply(*this, value, arguments);
}

Value Interpreter::apply_block_filters(const Expr& filter, const Value& value) {
  const Expr* inner = filter.parts[0].get();
  return apply_filter(filter, inner == nullptr ? value : apply_block_filters(*inner, value));
}

}  // namespace moesmith::text::jinja
