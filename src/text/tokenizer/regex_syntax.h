// SPDX-License-Identifier: Apache-2.0
// tokenizer.json holds Oniguruma patterns (Ruby syntax); PCRE2 runs them here. Where the same text
// means something else to the two, or Unicode classes differ, the pattern is rewritten.
#pragma once

#include <string>
#include <string_view>

namespace moesmith::text {

// The PCRE2 pattern (for UTF | UCP | MULTILINE) that matches what Oniguruma matches with `pattern`.
// Throws Error(kUnsupported), which begins with `where`, for a construct that is not built.
std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace moesmith::text
