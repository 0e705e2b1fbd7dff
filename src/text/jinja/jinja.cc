// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/jinja.h"

#include <algorithm>

#include "text/jinja/ast.h"
#include "text/jinja/fault.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"
#include "text/jinja/limits.h"
#include "text/jinja/parser.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {

struct Template::Parsed {
  std::string name;
  Body body;
};

Template Template::parse(std::string_view source, std::string name) {
  auto parsed = std::make_shared<Parsed>();
  parsed->name = std::move(name);
  try {
    if (static_cast<std::int64_t>(source.size()) > kMaxSourceBytes) {
      unsupported("a template of ", source.size(), " bytes, at most ", kMaxSourceBytes);
    }
    if (!unicode::is_valid_utf8(source)) fail("the template is not valid UTF-8");
    parsed->body = Parser(tokenize(source)).parse();
  } catch (const Fault& fault) {
    throw Error(fault.code(),
                str(parsed->name, ":", std::max(fault.line(), 1), ": ", fault.what()));
  }
  Template made;
  made.parsed_ = std::move(parsed);
  return made;
}

std::string Template::render(const Variables& variables) const {
  Interpreter interpreter;
  try {
    return interpreter.render(parsed_->body, variables);
  } catch (const Fault& fault) {
    throw Error(fault.code(), str(parsed_->name, ":", interpreter.line(), ": ", fault.what()));
  }
}

const std::string& Template::name() const { return parsed_->name; }

}  // namespace moesmith::text::jinja
