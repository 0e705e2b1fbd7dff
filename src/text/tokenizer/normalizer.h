// SPDX-License-Identifier: Apache-2.0
// The `normalizer` of a tokenizer.json: what is done to a stretch of text before it is cut.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {

// From valid UTF-8 to valid UTF-8.
using Normalizer = std::function<std::string(std::string_view)>;

// `node` is the normalizer's JSON; throws Error(kUnsupported) for a type that is not built.
Normalizer make_normalizer(const io::JsonRef& node);

// `text` with what `pattern` matches replaced.
std::string replace_all(const Regex& pattern, std::string_view text, std::string_view content);

// `pattern` of a Replace or Split: {"String": ...} or {"Regex": ...}.
Regex make_pattern(const io::JsonRef& node);

}  // namespace moesmith::text
