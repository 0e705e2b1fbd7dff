// SPDX-License-Identifier: Apache-2.0
// One rendering of a parsed template: scopes, bounds, and the walk over the tree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/object.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string, Value>> variables;
  bool kept = false;  // a macro looks names up in it: it lives to the end of the rendering

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  Interpreter();
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string render(const Body& body, const std::vector<std::pair<std::string, Value>>& variables);
  int line() const noexcept { return line_; }

  // evaluate.cc
  Value evaluate(const Expr& expr);
  Value call(const Value& callee, const Arguments& arguments);
  Value apply_filter(const Expr& filter, const Value& value);
  // A chain of filters whose innermost one gets `value`: a filter block's.
  Value apply_block_filters(const Expr& filter, const Value& value);
  Arguments evaluate(const CallArguments& arguments);

  // attributes.cc: value.name, value[key] and value.name(arguments), as the sandbox allows them
  Value attribute(const Value& value, std::string_view name);
  Value item(const Value& value, const Value& key);
  Value call_method(const Value& value, std::string_view name, const Arguments& arguments);
  // "a.b.0" of sort, map and others; a null attribute gives the value itself.
  Value attribute_path(const Value& value, const Value* path);

  // interpreter.cc
  Flow execute(const Body& body);
  std::string capture(const Body& body, Flow* flow = nullptr);
  std::string render_loop(const Stmt& loop, Items items, Scope* outer, int depth0);
  void assign(const Target& target, Value value);

  // Throws Fault when the rendering has done too much work, or a string is too long.
  void charge(std::int64_t work) {
    work_ += work;
    if (work_ > max_work_) too_much_work();
  }
  static void check_size(const std::string& text);
  Value text(std::string text, bool markup = false);
  Value list(Items items, SequenceKind kind = SequenceKind::kList);
  // Keeps an object until the end of the rendering.
  template <class T>
  std::shared_ptr<T> keep(std::shared_ptr<T> object) {
    charge(20);
    objects_.push_back(object);
    return object;
  }

  Scope* scope() const noexcept { return scope_; }

  // A scope that is current while this lives.
  class Frame {
   public:
    Frame(Interpreter& interpreter, Scope* parent);
    ~Frame();
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Interpreter& interpreter_;
    Scope* before_;
    std::unique_ptr<Scope> scope_;
  };
  // Counts calls inside one another.
  class CallDepth {
   public:
    explicit CallDepth(Interpreter& interpreter);
    ~CallDepth() { --interpreter_.call_depth_; }
    CallDepth(const CallDepth&) = delete;
    CallDepth& operator=(const CallDepth&) = delete;

   private:
    Interpreter& interpreter_;
  };

 private:
  class EvalDepth;
  [[noreturn]] void too_much_work() const;
  void emit(const std::string& text);
  Value unlimited_evaluate(const Expr& expr);
  Value evaluate_name(const Expr& expr);
  Value evaluate_call(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_concat(const Expr& expr);
  Value evaluate_dict(const Expr& expr);
  Flow execute(const Stmt& stmt);
  Flow execute_if(const Stmt& stmt);
  void execute_for(const Stmt& stmt, Items items, Scope* outer, int depth0);
  Flow execute_with(const Stmt& stmt);
  void execute_call(const Stmt& stmt);
  Value make_macro(const Stmt& stmt);

  std::string* out_ = nullptr;
  Scope globals_;
  Scope* scope_ = &globals_;
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  std::vector<std::shared_ptr<Object>> objects_;
  std::int64_t work_ = 0;
  std::int64_t max_work_;
  int call_depth_ = 0;
  int eval_depth_ = 0;
  int line_ = 1;
};

// globals.cc: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> make_globals();

}  // namespace moesmith::text::jinja
