// SPDX-License-Identifier: Apache-2.0
#include "train/data/chat_spans.h"

#include <algorithm>

#include "moesmith/error.h"

namespace moesmith::train {
namespace {

// Words no conversation has: private-use characters, so that the diff ends exactly at them, and
// nothing that a template trims or takes apart.
constexpr std::string_view kDummy = "\uE9A3\uE9A5\uE9A7";

std::size_t common_prefix(std::string_view a, std::string_view b) {
  const std::size_t most = std::min(a.size(), b.size());
  std::size_t n = 0;
  while (n < most && a[n] == b[n]) ++n;
  return n;
}

std::size_t common_suffix(std::string_view a, std::string_view b) {
  const std::size_t most = std::min(a.size(), b.size());
  std::size_t n = 0;
  while (n < most && a[a.size() - 1 - n] == b[b.size() - 1 - n]) ++n;
  return n;
}

// Not inside a character.
std::size_t align(std::string_view text, std::size_t at, bool forward) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) {
    at += forward ? 1 : std::size_t(-1);
  }
  return at;
}

// What stands before and behind the dummy when message `index` consists of it.
struct Frame {
  std::string before, behind;
};

std::optional<Frame> render_frame(const text::ChatTemplate& chat_template,
                                  const text::ChatRequest& request,
                                  std::size_t index,
                                  bool keep_the_rest) {
  text::ChatRequest changed = request;
  io::Json& message = changed.messages.as_array()[index];
  message.set("content", std::string(kDummy));
  if (!keep_the_rest) {
    for (const std::string_view key :
         {"tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"}) {
      message.as_object().erase(key);
    }
  }
  std::string rendered;
  try {
    rendered = chat_template.render(changed);
  } catch (const Error&) {
    return std::nullopt;  // a template may refuse such words
  }
  const std::size_t at = rendered.find(kDummy);
  if (at == std::string::npos || rendered.find(kDummy, at + 1) != std::string::npos) {
    return std::nullopt;
  }
  return Frame{rendered.substr(0, at), rendered.substr(at + kDummy.size())};
}

// Where the message after `index` starts: nothing when it cannot be found.
std::optional<std::size_t> next_turn(const text::ChatTemplate& chat_template,
                                     const text::ChatRequest& request,
                                     std::string_view rendered,
                                     std::size_t index) {
  if (index + 1 == request.messages.as_array().size()) return rendered.size();
  const auto frame = render_frame(chat_template, request, index + 1, false);
  if (!frame.has_value()) return std::nullopt;
  return common_prefix(rendered, frame->before);
}

}  // namespace

std::optional<TextSpan> find_turn(const text::ChatTemplate& chat_template,
                                  const text::ChatRequest& request,
                                  std::string_view rendered,
                                  std::size_t index,
                                  std::span<const std::string> turn_ends) {
  std::optional<std::size_t> begin;
  for (const bool keep_the_rest : {false, true}) {
    const auto frame = render_frame(chat_template, request, index, keep_the_rest);
    if (!frame.has_value()) continue;
    const std::size_t prefix = common_prefix(rendered, frame->before);
    // With everything else kept only the content differs, which is less than the turn's words.
    if (!keep_the_rest) begin = align(rendered, prefix, false);
    const std::size_t suffix = common_suffix(rendered, frame->behind);
    const std::size_t end = rendered.size() - suffix;
    const bool same_before = prefix == frame->before.size() || !keep_the_rest;
    if (suffix == frame->behind.size() && same_before && prefix <= end) {
      return TextSpan{align(rendered, prefix, false), align(rendered, end, true)};
    }
  }
  // Later turns changed with these words: the turn ends with its end token, before the next turn.
  const auto limit = next_turn(chat_template, request, rendered, index);
  if (!begin.has_value() || !limit.has_value() || *begin > *limit) return std::nullopt;
  std::size_t end = std::string_view::npos;
  for (const std::string& token : turn_ends) {
    if (!token.empty()) end = std::min(end, rendered.find(token, *begin));
  }
  if (end > *limit) return std::nullopt;
  return TextSpan{*begin, end};
}

std::optional<std::vector<std::size_t>> token_offsets(const text::Tokenizer& tokenizer,
                                                      std::span<const std::int32_t> ids,
                                                      std::string_view text) {
  std::vector<std::size_t> offsets;
  offsets.reserve(ids.size() + 1);
  text::StreamDecoder decoder(tokenizer, false);
  std::size_t at = 0;
  const auto follow = [&](std::string_view piece) {
    const std::string_view rest = text.substr(at);
    // SentencePiece puts a space before each stretch between special tokens.
    if (!rest.starts_with(piece) && piece.starts_with(' ')) piece.remove_prefix(1);
    if (!rest.starts_with(piece)) return false;
    at += piece.size();
    return true;
  };
  for (const std::int32_t id : ids) {
    offsets.push_back(at);
    if (!follow(decoder.push(id))) return std::nullopt;
  }
  if (!follow(decoder.finish()) || at != text.size()) return std::nullopt;
  offsets.push_back(at);
  return offsets;
}

}  // namespace moesmith::train
