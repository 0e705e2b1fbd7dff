// SPDX-License-Identifier: Apache-2.0
// The `loop` variable: what comes next is found when it is asked for, because the loop's condition
// may depend on what the body does.
#pragma once

#include <optional>

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/object.h"

namespace moesmith::text::jinja {

class Loop : public Object {
 public:
  Loop(Interpreter& interpreter, const Stmt& stmt, Items items, Scope* outer, int depth0)
      : interpreter_(interpreter),
        stmt_(stmt),
        items_(std::move(items)),
        outer_(outer),
        depth0_(depth0),
        filtered_(stmt.condition != nullptr) {}

  // Moves on; nothing at the end.
  std::optional<Value> next();

  std::string type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(std::string_view name) override;
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, const Arguments& arguments) override;
  void clear() override;

 private:
  std::optional<Value> advance();
  bool passes(const Value& item);
  const std::optional<Value>& peek();
  std::int64_t length();
  Value cycle(const Arguments& arguments) const;
  Value changed(const Arguments& arguments);

  Interpreter& interpreter_;
  const Stmt& stmt_;
  Items items_;
  Scope* outer_;
  std::int64_t depth0_;
  bool filtered_;
  std::size_t cursor_ = 0;
  std::int64_t index0_ = -1;
  std::optional<Value> after_;
  Value current_, before_;
  std::optional<Items> last_changed_;
};

}  // namespace moesmith::text::jinja
