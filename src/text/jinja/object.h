// SPDX-License-Identifier: Apache-2.0
// What a template makes besides data: namespaces, functions, macros, loops.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/arguments.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

class Interpreter;

class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  // Throws Fault where Python prints an address.
  virtual std::string repr() const;
  virtual std::optional<Value> attribute(std::string_view name);
  virtual bool is_callable() const { return false; }
  virtual Value call(Interpreter& interpreter, const Arguments& arguments);
  // Lets go of all values, so that cycles end with the rendering.
  virtual void clear() {}
};

class Namespace : public Object {
 public:
  std::string type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(std::string_view name) override;
  void set(std::string_view name, Value value);
  void clear() override { attributes_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

// A builtin, or a method with its object bound.
class Function : public Object {
 public:
  using Body = std::function<Value(Interpreter&, const Arguments&)>;
  explicit Function(Body body) : body_(std::move(body)) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return body_(interpreter, arguments);
  }
  void clear() override { body_ = nullptr; }

 private:
  Body body_;
};

}  // namespace moesmith::text::jinja
