// SPDX-License-Identifier: Apache-2.0
// SentencePiece's visible space, as a pre-tokenizer puts it in and a decoder takes it out.
#pragma once

#include <string>

#include "io/json.h"

namespace moesmith::text {

struct Metaspace {
  enum class Scheme { kFirst, kNever, kAlways };

  std::string replacement;  // one character, U+2581 as a rule
  Scheme scheme;            // which pieces get one in front that have none
  bool split;               // pieces are cut before each
};

// Reads both the present spelling (prepend_scheme) and the older add_prefix_space.
Metaspace parse_metaspace(const io::JsonRef& node);

}  // namespace moesmith::text
