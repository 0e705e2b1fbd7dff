// SPDX-License-Identifier: Apache-2.0
// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace moesmith::text::jinja {

struct Filter;      // filters.h
struct TestByName;  // tests.h
struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;  // null when absent
};

enum class ExprKind {
  kConst,    // value
  kName,     // name
  kList,     // parts
  kTuple,    // parts
  kDict,     // parts: key, value, key, value, ...
  kGetattr,  // parts[0].name
  kGetitem,  // parts[0][parts[1]]
  kSlice,    // parts[0][parts[1]:parts[2]:parts[3]], each of the last three may be null
  kCall,     // parts[0](arguments)
  kFilter,   // parts[0] | filter(arguments); parts[0] is null in a filter block
  kTest,     // parts[0] is test(arguments)
  kNot,
  kNegate,
  kPositive,
  kArithmetic,  // parts[0] name parts[1]
  kConcat,      // parts joined by ~
  kCompare,     // parts[0] ops[0] parts[1] ops[1] parts[2] ...
  kAnd,
  kOr,
  kCondition,  // parts[1] if parts[0] else parts[2], the last may be null
};

struct Expr {
  ExprKind kind;
  int line;
  int depth = 1;  // of the tree below, this node included
  std::string name;
  Value value;
  std::vector<ExprPtr> parts;
  std::vector<std::string> ops;
  CallArguments arguments;
  const Filter* filter = nullptr;
  const TestByName* test = nullptr;
};

// Where a value goes: a name, a namespace's attribute, or several targets.
struct Target {
  std::string name;
  std::string attribute;       // "" unless a namespace's
  std::vector<Target> unpack;  // not empty: a tuple of targets
};

struct MacroSignature {
  std::string name;  // "caller" for a call block
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

enum class StmtKind {
  kText,      // text
  kOutput,    // expr
  kIf,        // conditions and bodies; one body more than conditions when there is an else
  kFor,       // target, expr, condition (may be null); bodies: loop, else
  kSet,       // target = expr
  kSetBlock,  // target = bodies[0] through filter
  kWith,      // targets = exprs around bodies[0]
  kMacro,     // signature, bodies[0]
  kCall,      // expr is a call that gets bodies[0] as its caller
  kFilter,    // bodies[0] through expr
  kScope,     // bodies[0], as {% generation %}
  kBreak,
  kContinue,
};

struct Stmt {
  StmtKind kind;
  int line;
  std::string text;
  ExprPtr expr;
  ExprPtr condition;
  bool recursive = false;
  std::vector<ExprPtr> exprs;
  std::vector<Target> targets;
  std::vector<Body> bodies;
  MacroSignature signature;
};

}  // namespace moesmith::text::jinja
