// SPDX-License-Identifier: Apache-2.0
// GPT-2's printable alphabet: each of the 256 bytes has a visible character, so that a byte-level
// vocabulary can be written as text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moesmith::text {

// UTF-8 of the character that stands for each byte.
const std::array<std::string, 256>& byte_characters();
// Each byte of `bytes` as its character.
std::string bytes_to_characters(std::string_view bytes);
// The byte that `character` stands for; nothing for another character.
std::optional<unsigned char> byte_of_character(char32_t character);

}  // namespace moesmith::text
