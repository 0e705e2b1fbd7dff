// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/interpreter.h"

#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/loop.h"
#include "text/jinja/macro.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
    for (const auto& [key, value] : scope->variables) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(std::string(name), std::move(value));
}

Interpreter::Frame::Frame(Interpreter& interpreter, Scope* parent)
    : interpreter_(interpreter), before_(interpreter.scope_), scope_(std::make_unique<Scope>()) {
  scope_->parent = parent;
  interpreter_.scope_ = scope_.get();
}

Interpreter::Frame::~Frame() {
  interpreter_.scope_ = before_;
  if (scope_->kept) interpreter_.kept_scopes_.push_back(std::move(scope_));
}

Interpreter::CallDepth::CallDepth(Interpreter& interpreter) : interpreter_(interpreter) {
  if (interpreter.call_depth_ >= kMaxCallDepth) {
    unsupported("calls nest deeper than ", kMaxCallDepth);
  }
  ++interpreter_.call_depth_;
}

Interpreter::Interpreter() : max_work_(kMaxWork) { globals_.variables = make_globals(); }

Interpreter::~Interpreter() {
  // Values may hold one another in circles (a namespace that holds itself): let go of them first.
  for (const auto& object : objects_) object->clear();
  for (const auto& scope : kept_scopes_) scope->variables.clear();
}

std::string Interpreter::render(const Body& body,
                                const std::vector<std::pair<std::string, Value>>& variables) {
  const Frame context(*this, &globals_);
  for (const auto& [name, value] : variables) scope_->set(name, value);
  const Frame frame(*this, scope_);
  return capture(body);
}

void Interpreter::too_much_work() const {
  unsupported("the template does more than ", kMaxWork, " units of work");
}

void Interpreter::check_size(const std::string& text) {
  if (static_cast<std::int64_t>(text.size()) > kMaxStringBytes) {
    unsupported("a string of more than ", kMaxStringBytes, " bytes");
  }
}

Value Interpreter::text(std::string text, bool markup) {
  check_size(text);
  charge(static_cast<std::int64_t>(text.size() / 16));
  return Value(std::move(text), markup);
}

Value Interpreter::list(Items items, SequenceKind kind) {
  charge(static_cast<std::int64_t>(items.size()));
  return Value::sequence(kind, std::move(items));
}

void Interpreter::emit(const std::string& text) {
  charge(static_cast<std::int64_t>(text.size() / 16));
  if (static_cast<std::int64_t>(out_->size() + text.size()) > kMaxStringBytes) {
    unsupported("an output of more than ", kMaxStringBytes, " bytes");
  }
  *out_ += text;
}

std::string Interpreter::capture(const Body& body, Flow* flow) {
  std::string buffer;
  std::string* before = std::exchange(out_, &buffer);
  try {
    const Flow result = execute(body);
    if (flow != nullptr) *flow = result;
  } catch (...) {
    out_ = before;
    throw;
  }
  out_ = before;
  return buffer;
}

Flow Interpreter::execute(const Body& body) {
  for (const auto& stmt : body) {
    const Flow flow = execute(*stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Flow Interpreter::execute(const Stmt& stmt) {
  charge(1);
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kText:
      emit(stmt.text);
      break;
    case StmtKind::kOutput:
      emit(to_string(evaluate(*stmt.expr)));
      break;
    case StmtKind::kIf:
      return execute_if(stmt);
    case StmtKind::kFor:
      execute_for(stmt, iterate(evaluate(*stmt.expr)), scope_, 0);
      break;
    case StmtKind::kSet:
      assign(stmt.targets[0], evaluate(*stmt.expr));
      break;
    case StmtKind::kSetBlock:
    case StmtKind::kFilter:
    case StmtKind::kWith:
    case StmtKind::kScope:
      return execute_with(stmt);
    case StmtKind::kMacro:
      scope_->set(stmt.signature.name, make_macro(stmt));
      break;
    case StmtKind::kCall:
      execute_call(stmt);
      break;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Flow Interpreter::execute_if(const Stmt& stmt) {
  for (std::size_t i = 0; i < stmt.exprs.size(); ++i) {
    if (truthy(evaluate(*stmt.exprs[i]))) return execute(stmt.bodies[i]);
  }
  return stmt.bodies.size() > stmt.exprs.size() ? execute(stmt.bodies.back()) : Flow::kNext;
}

void Interpreter::execute_for(const Stmt& stmt, Items items, Scope* outer, int depth0) {
  charge(static_cast<std::int64_t>(items.size() / 16));
  const auto loop = std::make_shared<Loop>(*this, stmt, std::move(items), outer, depth0);
  bool any = false;
  while (const std::optional<Value> item = loop->next()) {
    any = true;
    const Frame frame(*this, outer);
    scope_->set("loop", Value(std::shared_ptr<Object>(loop)));
    assign(stmt.targets[0], *item);
    if (execute(stmt.bodies[0]) == Flow::kBreak) break;
  }
  if (loop.use_count() > 1) keep(std::shared_ptr<Object>(loop));
  if (!any && stmt.bodies.size() > 1) {
    const Frame frame(*this, outer);
    execute(stmt.bodies[1]);
  }
}

std::string Interpreter::render_loop(const Stmt& loop, Items items, Scope* outer, int depth0) {
  std::string buffer;
  std::string* before = std::exchange(out_, &buffer);
  try {
    execute_for(loop, std::move(items), outer, depth0);
  } catch (...) {
    out_ = before;
    throw;
  }
  out_ = before;
  return buffer;
}

// The statements whose body has a scope of its own. A break inside goes through to the loop.
Flow Interpreter::execute_with(const Stmt& stmt) {
  Flow flow = Flow::kNext;
  Items values;
  for (const ExprPtr& expr : stmt.exprs) values.push_back(evaluate(*expr));
  std::string body;
  {
    const Frame frame(*this, scope_);
    for (std::size_t i = 0; i < values.size(); ++i) assign(stmt.targets[i], values[i]);
    if (stmt.kind == StmtKind::kWith || stmt.kind == StmtKind::kScope) {
      return execute(stmt.bodies[0]);
    }
    body = capture(stmt.bodies[0], &flow);
  }
  if (flow != Flow::kNext) return flow;
  Value value = text(std::move(body));
  if (stmt.expr != nullptr) value = apply_block_filters(*stmt.expr, value);
  if (stmt.kind == StmtKind::kFilter) {
    emit(to_string(value));
  } else {
    assign(stmt.targets[0], std::move(value));
  }
  return Flow::kNext;
}

Value Interpreter::make_macro(const Stmt& stmt) {
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) scope->kept = true;
  return Value(keep(
      std::shared_ptr<Object>(std::make_shared<Macro>(stmt.signature, stmt.bodies[0], scope_))));
}

void Interpreter::execute_call(const Stmt& stmt) {
  const Expr& call_expr = *stmt.expr;
  const Value callee = evaluate(*call_expr.parts[0]);
  Arguments arguments = evaluate(call_expr.arguments);
  arguments.named.emplace_back("caller", make_macro(stmt));
  emit(to_string(call(callee, arguments)));
}

void Interpreter::assign(const Target& target, Value value) {
  if (!target.attribute.empty()) {
    const Value* found = scope_->find(target.name);
    auto* object = found != nullptr && found->is_object()
                       ? dynamic_cast<Namespace*>(found->object().get())
                       : nullptr;
    if (object == nullptr) fail("cannot assign attribute on non-namespace object");
    object->set(target.attribute, std::move(value));
    return;
  }
  if (target.unpack.empty()) return scope_->set(target.name, std::move(value));
  if (!is_iterable(value) || value.is_undefined()) {
    fail("cannot unpack non-iterable ", type_name(value), " object");
  }
  const Items items = iterate(value);
  if (items.size() < target.unpack.size()) {
    fail("not enough values to unpack (expected ", target.unpack.size(), ", got ", items.size(),
         ")");
  }
  if (items.size() > target.unpack.size()) {
    fail("too many values to unpack (expected ", target.unpack.size(), ")");
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(target.unpack[i], items[i]);
}

}  // namespace moesmith::text::jinja
