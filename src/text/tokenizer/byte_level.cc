// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/byte_level.h"

#include "text/tokenizer/unicode.h"

namespace moesmith::text {
namespace {

// Bytes that are printable in Latin-1 stand for themselves, the others follow from U+0100 on.
constexpr bool is_printable(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<std::int16_t, 0x144> byte{};  // -1: not in the alphabet
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& b : alphabet.byte) b = -1;
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char32_t c = is_printable(byte) ? byte : next++;
    alphabet.character[byte] = c;
    alphabet.byte[c] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> all;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      unicode::append(all[byte], kAlphabet.character[byte]);
    }
    return all;
  }();
  return characters;
}

std::string bytes_to_characters(std::string_view bytes) {
  const auto& characters = byte_characters();
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) out += characters[static_cast<unsigned char>(byte)];
  return out;
}

std::optional<unsigned char> byte_of_character(char32_t character) {
  if (character >= kAlphabet.byte.size() || kAlphabet.byte[character] < 0) return std::nullopt;
  return static_cast<unsigned char>(kAlphabet.byte[character]);
}

}  // namespace moesmith::text
