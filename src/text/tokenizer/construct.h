// SPDX-License-Identifier: Apache-2.0
// The one wording for a well-formed piece of tokenizer.json that nothing here carries out.
#pragma once

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

}  // namespace moesmith::text
