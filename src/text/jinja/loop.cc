// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/loop.h"

#include <algorithm>

#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {

bool Loop::passes(const Value& item) {
  const Interpreter::Frame frame(interpreter_, outer_);
  interpreter_.assign(stmt_.targets[0], item);
  return truthy(interpreter_.evaluate(*stmt_.condition));
}

std::optional<Value> Loop::advance() {
  while (cursor_ < items_.size()) {
    interpreter_.charge(1);
    const Value item = items_[cursor_++];
    if (!filtered_ || passes(item)) return item;
  }
  return std::nullopt;
}

const std::optional<Value>& Loop::peek() {
  if (!after_.has_value()) after_ = advance();
  return after_;
}

std::optional<Value> Loop::next() {
  std::optional<Value> item = after_.has_value() ? std::exchange(after_, std::nullopt) : advance();
  if (!item.has_value()) return item;
  ++index0_;
  before_ = std::exchange(current_, *item);
  return item;
}

std::int64_t Loop::length() {
  if (filtered_) {
    Items rest;
    while (auto item = advance()) rest.push_back(std::move(*item));
    // From here on the items are those that pass, as if there were no condition.
    const std::int64_t seen = index0_ + 1 + (after_.has_value() ? 1 : 0);
    Items all(static_cast<std::size_t>(seen));
    cursor_ = all.size();
    all.insert(all.end(), rest.begin(), rest.end());
    items_ = std::move(all);
    filtered_ = false;
  }
  return static_cast<std::int64_t>(items_.size());
}

Value Loop::cycle(const Arguments& arguments) const {
  const Items& values = arguments.positional;
  if (values.empty()) fail("no items for cycling given");
  return values[static_cast<std::size_t>(index0_) % values.size()];
}

Value Loop::changed(const Arguments& arguments) {
  const Items& now = arguments.positional;
  if (last_changed_.has_value() && last_changed_->size() == now.size() &&
      std::equal(now.begin(), now.end(), last_changed_->begin(), equal)) {
    return false;
  }
  last_changed_ = now;
  return true;
}

std::optional<Value> Loop::attribute(std::string_view name) {
  if (name == "index") return index0_ + 1;
  if (name == "index0") return index0_;
  if (name == "first") return index0_ == 0;
  if (name == "last") return !peek().has_value();
  if (name == "length") return length();
  if (name == "revindex") return length() - index0_;
  if (name == "revindex0") return length() - index0_ - 1;
  if (name == "depth") return depth0_ + 1;
  if (name == "depth0") return depth0_;
  if (name == "previtem") {
    return index0_ == 0 ? Value::undefined("there is no previous item") : before_;
  }
  if (name == "nextitem") {
    const std::optional<Value>& after = peek();
    return after.has_value() ? *after : Value::undefined("there is no next item");
  }
  if (name != "cycle" && name != "changed") return std::nullopt;
  // The object that this function belongs to lives as long as the rendering once it is kept.
  auto body = [this, cycles = name == "cycle"](Interpreter&, const Arguments& arguments) {
    return cycles ? cycle(arguments) : changed(arguments);
  };
  return Value(interpreter_.keep(std::make_shared<Function>(body)));
}

Value Loop::call(Interpreter& interpreter, const Arguments& arguments) {
  if (!stmt_.recursive) {
    fail("the loop must have the 'recursive' marker to be called recursively");
  }
  const Bound bound("loop", arguments, {"iterable"}, 1);
  const Interpreter::CallDepth depth(interpreter);
  return interpreter.text(
      interpreter.render_loop(stmt_, iterate(*bound[0]), outer_, static_cast<int>(depth0_) + 1));
}

void Loop::clear() {
  items_.clear();
  after_.reset();
  last_changed_.reset();
  current_ = before_ = Value();
}

}  // namespace moesmith::text::jinja
