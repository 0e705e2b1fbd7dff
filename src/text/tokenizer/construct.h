// SPDX-License-Identifier: Apache-2.0
// What the readers of tokenizer.json share: the wording for a construct that nothing here carries
// out, and for a list that is none.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::text {

[[noreturn]] inline void refuse_construct(const io::JsonRef& node,
                                          std::string_view kind,
                                          std::string_view type) {
  throw Error(ErrorCode::kUnsupported, str(node.source(), ": ", node.path(), ": the ", kind, " \"",
                                           type, "\" is not supported"));
}

// Elements of an array; fails with the node's place when it is none.
inline std::size_t array_size(const io::JsonRef& node) {
  if (!node.value().is_array()) {
    node.fail(str("got ", node.value().describe(), ", expected an array"));
  }
  return node.size();
}

}  // namespace moesmith::text
