// SPDX-License-Identifier: Apache-2.0
// The `decoder` of a tokenizer.json: turns the strings of tokens back into text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/json.h"

namespace moesmith::text {

// Rewrites the list of token strings; what is left at the end is joined without a space.
using Decoder = std::function<void(std::vector<std::string>& tokens)>;

// `node` is the decoder's JSON; throws Error(kUnsupported) for a type that is not built.
Decoder make_decoder(const io::JsonRef& node);

}  // namespace moesmith::text
