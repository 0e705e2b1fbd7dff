// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/decoder.h"

#include <cctype>
#include <optional>
#include <string_view>
#include <utility>

#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/construct.h"
#include "text/tokenizer/metaspace.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

void fuse(std::vector<std::string>& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens.assign(1, std::move(all));
}

// A token with a character outside the byte alphabet stands for its own bytes.
void append_bytes(const std::string& token, std::string& bytes) {
  const std::size_t before = bytes.size();
  for (std::size_t at = 0; at < token.size();) {
    const auto byte = byte_of_character(unicode::next(token, at));
    if (!byte) {
      bytes.resize(before);
      bytes += token;
      return;
    }
    bytes += static_cast<char>(*byte);
  }
}

void decode_byte_level(std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_bytes(token, bytes);
  tokens.assign(1, unicode::to_valid_utf8(bytes));
}

// The byte of "<0x0A>".
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const auto u = static_cast<unsigned char>(c);
    if (!std::isxdigit(u)) return std::nullopt;
    value = value * 16 + (std::isdigit(u) ? u - '0' : std::tolower(u) - 'a' + 10);
  }
  return static_cast<char>(value);
}

// A run of byte tokens is a text when it is valid UTF-8 as a whole, else one U+FFFD per byte.
void decode_byte_fallback(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (unicode::is_valid_utf8(run)) {
      if (!run.empty()) out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), std::string(kReplacement));
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = fallback_byte(token)) {
      run += *byte;
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

// Takes up to `start` and `stop` of `content` off each token's ends.
Decoder make_strip(const io::JsonRef& node) {
  const std::string content = node.at("content").as_string();
  const std::int64_t start = node.get_integer("start", 0);
  const std::int64_t stop = node.get_integer("stop", 0);
  if (content.empty()) node.fail("content: got \"\", expected one character");
  return [=](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::int64_t i = 0; i < start && rest.starts_with(content); ++i) {
        rest.remove_prefix(content.size());
      }
      for (std::int64_t i = 0; i < stop && rest.ends_with(content); ++i) {
        rest.remove_suffix(content.size());
      }
      token = std::string(rest);
    }
  };
}

Decoder make_replace(const io::JsonRef& node) {
  Regex pattern = make_pattern(node.at("pattern"));
  std::string content = node.at("content").as_string();
  return [pattern = std::move(pattern),
          content = std::move(content)](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) token = replace_all(pattern, token, content);
  };
}

Decoder make_metaspace(const io::JsonRef& node) {
  const Metaspace space = parse_metaspace(node);
  const Regex pattern = Regex::literal(space.replacement, node.source());
  return [=](std::vector<std::string>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool dropped = i == 0 && space.scheme != Metaspace::Scheme::kNever;
      tokens[i] = replace_all(pattern, tokens[i], dropped ? "" : " ");
    }
  };
}

Decoder make_bpe(const io::JsonRef& node) {
  const std::string suffix = node.get_string("suffix", "</w>");
  if (suffix.empty()) node.fail("suffix: got \"\", expected at least one character");
  const Regex pattern = Regex::literal(suffix, node.source());
  return [=](std::vector<std::string>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(pattern, tokens[i], i + 1 == tokens.size() ? "" : " ");
    }
  };
}

Decoder make_sequence(const io::JsonRef& node) {
  const io::JsonRef list = node.at("decoders");
  std::vector<Decoder> steps;
  for (std::size_t i = 0; i < array_size(list); ++i) {
    steps.push_back(make_decoder(list.at(i)));
  }
  return [steps = std::move(steps)](std::vector<std::string>& tokens) {
    for (const Decoder& step : steps) step(tokens);
  };
}

}  // namespace

Decoder make_decoder(const io::JsonRef& node) {
  const std::string& type = node.at("type").as_string();
  if (type == "Sequence") return make_sequence(node);
  if (type == "ByteLevel") return decode_byte_level;
  if (type == "ByteFallback") return decode_byte_fallback;
  if (type == "Fuse") return fuse;
  if (type == "Replace") return make_replace(node);
  if (type == "Strip") return make_strip(node);
  if (type == "Metaspace") return make_metaspace(node);
  if (type == "BPEDecoder") return make_bpe(node);
  refuse_construct(node, "decoder", type);
}

}  // namespace moesmith::text
