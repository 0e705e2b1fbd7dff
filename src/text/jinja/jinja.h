// SPDX-License-Identifier: Apache-2.0
// Jinja templates, as far as chat templates use them: parsed once, rendered often, output equal to
// that of Python's jinja2 under the settings of transformers (trim_blocks, lstrip_blocks,
// loopcontrols, the immutable sandbox, tojson that escapes nothing). What is not built is an error
// that names line and construct.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace moesmith::text::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

// Immutable; copies share the parsed form. Several threads may render at the same time.
class Template {
 public:
  // Throws Error(kInvalidInput) for a syntax error, Error(kUnsupported) for a construct that is not
  // built: "<name>:<line>: <what>".
  static Template parse(std::string_view source, std::string name);

  // Variables that the template asks for and that are not given are undefined: printed as "", false
  // in a test, an error when an attribute is taken. Throws Error(kInvalidInput)
  // "<name>:<line>: <what>" for what Python would raise, raise_exception's message included, and
  // Error(kUnsupported) when a bound is reached: nesting, output, work (see limits.h).
  std::string render(const Variables& variables) const;

  const std::string& name() const;

 private:
  struct Parsed;
  Template() = default;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace moesmith::text::jinja
