// SPDX-License-Identifier: Apache-2.0
// The `post_processor` of a tokenizer.json: the special tokens that go around one text.
#pragma once

#include <cstdint>
#include <vector>

#include "io/json.h"
#include "text/tokenizer/vocabulary.h"

namespace moesmith::text {

// What stands before and behind the text's own ids.
struct Surround {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

// `node` is the post-processor's JSON. Only the template for a single text is read. Throws
// Error(kUnsupported) for a type that is not built or a template without exactly one text.
Surround make_post_processor(const io::JsonRef& node);

}  // namespace moesmith::text
