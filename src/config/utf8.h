// SPDX-License-Identifier: Apache-2.0
// Is this text? UTF-8 without overlong forms, surrogates and control characters other than tab and
// the two line ends.
#pragma once

#include <string_view>

namespace moesmith::config {

// Position of the first byte that begins no valid character; text.size() when all are valid. A byte
// order mark at the start is valid.
std::size_t first_invalid_utf8(std::string_view text) noexcept;

}  // namespace moesmith::config
