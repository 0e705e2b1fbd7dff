// SPDX-License-Identifier: Apache-2.0
// The functions a template finds: jinja2's, and those transformers adds.
#include <array>
#include <ctime>

#include "text/jinja/fault.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/limits.h"
#include "text/jinja/object.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

class Cycler : public Object {
 public:
  explicit Cycler(Items items) : items_(std::move(items)) {}
  std::string type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "current") return items_[at_];
    if (name != "next" && name != "reset") return std::nullopt;
    auto body = [this, moves = name == "next"](Interpreter&, const Arguments&) {
      const Value now = items_[at_];
      at_ = moves ? (at_ + 1) % items_.size() : 0;
      return moves ? now : Value();
    };
    return Value(std::shared_ptr<Object>(std::make_shared<Function>(body)));
  }
  void clear() override { items_.clear(); }

 private:
  Items items_;
  std::size_t at_ = 0;
};

Value range(Interpreter& interpreter, const Arguments& arguments) {
  const Items& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.named.empty()) {
    fail("range expected 1 to 3 arguments, got ", given.size());
  }
  for (const Value& value : given) {
    if (!value.is_int() && !value.is_bool()) {
      fail("'", type_name(value), "' object cannot be interpreted as an integer");
    }
  }
  const std::int64_t start = given.size() > 1 ? given[0].integer() : 0;
  const std::int64_t stop = given[given.size() > 1 ? 1 : 0].integer();
  const std::int64_t step = given.size() > 2 ? given[2].integer() : 1;
  if (step == 0) fail("range() arg 3 must not be zero");
  Items items;
  std::int64_t at = start;
  while (step > 0 ? at < stop : at > stop) {
    if (static_cast<std::int64_t>(items.size()) >= kMaxRange) {
      fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (", kMaxRange, ").");
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  interpreter.charge(static_cast<std::int64_t>(items.size() / 4));
  return Value::range(start, stop, step, std::move(items));
}

// dict(mapping or pairs, **named)
std::vector<std::pair<Value, Value>> pairs_of(std::string_view name, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  if (arguments.positional.size() > 1) {
    fail(name, " expected at most 1 argument, got ", arguments.positional.size());
  }
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.is_dict()) {
      entries = from.dict().entries;
    } else {
      for (const Value& item : iterate(from)) {
        const Items pair = iterate(item);
        if (pair.size() != 2) fail(name, "() wants pairs, got ", pair.size(), " items");
        entries.emplace_back(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [key, value] : arguments.named) entries.emplace_back(Value(key), value);
  return entries;
}

Value make_dict(Interpreter& interpreter, const Arguments& arguments) {
  auto entries = pairs_of("dict", arguments);
  interpreter.charge(static_cast<std::int64_t>(entries.size()));
  return Value::dict(std::move(entries));
}

Value make_namespace(Interpreter& interpreter, const Arguments& arguments) {
  auto made = interpreter.keep(std::make_shared<Namespace>());
  for (const auto& [key, value] : pairs_of("namespace", arguments)) {
    made->set(to_string(key), value);
    interpreter.charge(1);
  }
  return Value(std::shared_ptr<Object>(made));
}

Value make_cycler(Interpreter& interpreter, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  return Value(
      interpreter.keep(std::shared_ptr<Object>(std::make_shared<Cycler>(arguments.positional))));
}

Value make_joiner(Interpreter& interpreter, const Arguments& arguments) {
  const Bound bound("joiner", arguments, {"sep"});
  const Value separator = bound[0] == nullptr ? Value(", ") : *bound[0];
  auto body = [separator, used = false](Interpreter&, const Arguments&) mutable {
    return std::exchange(used, true) ? separator : Value("");
  };
  return Value(interpreter.keep(std::shared_ptr<Object>(std::make_shared<Function>(body))));
}

Value raise_exception(Interpreter&, const Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"}, 1);
  fail("the template refuses: ", to_string(*bound[0]));
}

Value strftime_now(Interpreter&, const Arguments& arguments) {
  const Bound bound("strftime_now", arguments, {"format"}, 1);
  const std::string format = bound.text(0);
  if (format.empty()) return Value("");
  if (format.size() > 1000) unsupported("a date format of more than 1000 bytes");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 16384> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), format.c_str(), &local);
  return Value(unicode::to_valid_utf8(std::string_view(text.data(), size)));
}

}  // namespace

std::vector<std::pair<std::string, Value>> make_globals() {
  const auto function = [](Function::Body body) {
    return Value(std::shared_ptr<Object>(std::make_shared<Function>(std::move(body))));
  };
  return {{"range", function(range)},
          {"dict", function(make_dict)},
          {"namespace", function(make_namespace)},
          {"cycler", function(make_cycler)},
          {"joiner", function(make_joiner)},
          {"raise_exception", function(raise_exception)},
          {"strftime_now", function(strftime_now)}};
}

}  // namespace moesmith::text::jinja
