// SPDX-License-Identifier: Apache-2.0
// A macro, or the body of a call block, with the scope it was written in.
#pragma once

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/object.h"

namespace moesmith::text::jinja {

class Macro : public Object {
 public:
  Macro(const MacroSignature& signature, const Body& body, Scope* scope)
      : signature_(signature), body_(body), scope_(scope) {}

  std::string type_name() const override { return "Macro"; }
  std::string repr() const override;
  std::optional<Value> attribute(std::string_view name) override;
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, const Arguments& arguments) override;

 private:
  void bind(Interpreter& interpreter, const Arguments& arguments) const;

  const MacroSignature& signature_;
  const Body& body_;
  Scope* scope_;
};

}  // namespace moesmith::text::jinja
