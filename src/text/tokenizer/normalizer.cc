// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/normalizer.h"

#include <utility>

#include "core/text.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/construct.h"

namespace moesmith::text {
namespace {

std::string strip(std::string_view text, bool left, bool right) {
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end) {
    std::size_t after = begin;
    if (!unicode::is_whitespace(unicode::next(text, after))) break;
    begin = after;
  }
  while (right && end > begin) {
    const std::size_t last = unicode::previous(text, end);
    std::size_t at = last;
    if (!unicode::is_whitespace(unicode::next(text, at))) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string strip_accents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    if (!unicode::is_combining_mark(c)) unicode::append(out, c);
  }
  return out;
}

Normalizer make_sequence(const io::JsonRef& node) {
  const io::JsonRef list = node.at("normalizers");
  std::vector<Normalizer> steps;
  for (std::size_t i = 0; i < array_size(list); ++i) steps.push_back(make_normalizer(list.at(i)));
  return [steps = std::move(steps)](std::string_view text) {
    std::string out(text);
    for (const Normalizer& step : steps) out = step(out);
    return out;
  };
}

Normalizer make_replace(const io::JsonRef& node) {
  Regex pattern = make_pattern(node.at("pattern"));
  std::string content = node.at("content").as_string();
  return [pattern = std::move(pattern), content = std::move(content)](std::string_view text) {
    return replace_all(pattern, text, content);
  };
}

Normalizer make_prepend(const io::JsonRef& node) {
  return [prefix = node.at("prepend").as_string()](std::string_view text) {
    return text.empty() ? std::string() : str(prefix, text);
  };
}

Normalizer form(unicode::Form form) {
  return [form](std::string_view text) { return unicode::normalize(text, form); };
}

}  // namespace

std::string replace_all(const Regex& pattern, std::string_view text, std::string_view content) {
  std::string out;
  std::size_t copied = 0;
  for (const Span& span : pattern.find_all(text)) {
    out.append(text, copied, span.begin - copied);
    out += content;
    copied = span.end;
  }
  out.append(text, copied);
  return out;
}

Regex make_pattern(const io::JsonRef& node) {
  const std::string where = str(node.source(), ": ", node.path());
  if (const auto literal = node.find("String")) {
    if (literal->as_string().empty()) node.fail("the pattern is empty");
    return Regex::literal(literal->as_string(), where);
  }
  return Regex::compile(node.at("Regex").as_string(), where);
}

Normalizer make_normalizer(const io::JsonRef& node) {
  const std::string& type = node.at("type").as_string();
  if (type == "Sequence") return make_sequence(node);
  if (type == "NFC") return form(unicode::Form::kNfc);
  if (type == "NFD") return form(unicode::Form::kNfd);
  if (type == "NFKC") return form(unicode::Form::kNfkc);
  if (type == "NFKD") return form(unicode::Form::kNfkd);
  if (type == "Replace") return make_replace(node);
  if (type == "Prepend") return make_prepend(node);
  if (type == "Lowercase") return [](std::string_view text) { return unicode::lowercase(text); };
  if (type == "StripAccents") return strip_accents;
  if (type == "ByteLevel") return bytes_to_characters;
  if (type == "Strip") {
    const bool left = node.at("strip_left").as_bool();
    const bool right = node.at("strip_right").as_bool();
    return [=](std::string_view text) { return strip(text, left, right); };
  }
  refuse_construct(node, "normalizer", type);
}

}  // namespace moesmith::text
