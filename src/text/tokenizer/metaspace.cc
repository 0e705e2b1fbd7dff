// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/metaspace.h"

#include "text/tokenizer/construct.h"

namespace moesmith::text {

Metaspace parse_metaspace(const io::JsonRef& node) {
  Metaspace out;
  out.replacement = node.get_string("replacement", "\u2581");
  if (out.replacement.empty()) node.fail("replacement: got \"\", expected one character");
  out.scheme = node.get_bool("add_prefix_space", true) ? Metaspace::Scheme::kAlways
                                                       : Metaspace::Scheme::kNever;
  out.split = node.get_bool("split", true);
  if (const auto scheme = node.find("prepend_scheme")) {
    const std::string& name = scheme->as_string();
    if (name == "first") {
      out.scheme = Metaspace::Scheme::kFirst;
    } else if (name == "never") {
      out.scheme = Metaspace::Scheme::kNever;
    } else if (name == "always") {
      out.scheme = Metaspace::Scheme::kAlways;
    } else {
      refuse_construct(*scheme, "prepend scheme", name);
    }
  }
  return out;
}

}  // namespace moesmith::text
