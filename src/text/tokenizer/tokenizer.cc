// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "text/tokenizer/impl.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {

std::int32_t Tokenizer::Impl::find(std::string_view token) const {
  const std::int32_t id = added_vocabulary.find(token);
  return id >= 0 ? id : model.vocabulary().find(token);
}

std::string_view Tokenizer::Impl::token(std::int32_t id) const {
  const std::string_view added_token = added_vocabulary.token(id);
  return added_token.empty() ? model.vocabulary().token(id) : added_token;
}

std::int64_t Tokenizer::Impl::size() const {
  return std::max(model.vocabulary().size(), added_vocabulary.size());
}

// `text`: what lies between two tokens found before normalisation.
void Tokenizer::Impl::encode_section(std::string_view text,
                                     bool at_text_start,
                                     BpeScratch& scratch,
                                     std::vector<std::int32_t>& ids) const {
  const std::string normalized = normalizer ? normalizer(text) : std::string(text);
  for (const Section& section : in_normalized.split(normalized)) {
    if (section.token >= 0) {
      ids.push_back(section.token);
      continue;
    }
    const std::size_t length = section.span.end - section.span.begin;
    Pieces pieces{normalized.substr(section.span.begin, length),
                  {{0, length}},
                  at_text_start && section.span.begin == 0};
    for (const PreTokenizerStage& stage : pre_tokenizer.stages) stage(pieces);
    const std::string_view all = pieces.text;
    for (const Span& span : pieces.spans) {
      model.encode(all.substr(span.begin, span.end - span.begin), pre_tokenizer.byte_level_last,
                   scratch, ids);
    }
  }
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const std::string valid = unicode::to_valid_utf8(text);
  auto scratch = impl_->pool.take();
  std::vector<std::int32_t> ids;
  ids.reserve(valid.size() / 4 + 8);
  if (add_special_tokens) ids = impl_->surround.before;
  for (const Section& section : impl_->in_raw.split(valid)) {
    if (section.token >= 0) {
      ids.push_back(section.token);
    } else {
      impl_->encode_section(
          std::string_view(valid).substr(section.span.begin, section.span.end - section.span.begin),
          section.span.begin == 0, *scratch, ids);
    }
  }
  impl_->pool.give(std::move(scratch));
  if (add_special_tokens) {
    ids.insert(ids.end(), impl_->surround.after.begin(), impl_->surround.after.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const std::string_view token = impl_->token(id);
    if (token.empty() || (skip_special_tokens && is_special(id))) continue;
    const auto other = impl_->decoded_as.find(id);
    tokens.emplace_back(other == impl_->decoded_as.end() ? token : other->second);
  }
  if (impl_->decoder) impl_->decoder(tokens);
  std::string out;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !impl_->decoder) out += ' ';
    out += tokens[i];
  }
  return out;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  const std::int32_t id = impl_->find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::string_view Tokenizer::token_of(std::int32_t id) const { return impl_->token(id); }
std::int64_t Tokenizer::vocab_size() const { return impl_->size(); }
const std::optional<NamedToken>& Tokenizer::bos() const { return impl_->bos; }
const std::optional<NamedToken>& Tokenizer::eos() const { return impl_->eos; }
const std::optional<NamedToken>& Tokenizer::pad() const { return impl_->pad; }
const std::optional<NamedToken>& Tokenizer::unk() const { return impl_->unk; }
const std::vector<AddedToken>& Tokenizer::added_tokens() const { return impl_->added; }

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && static_cast<std::size_t>(id) < impl_->special.size() &&
         impl_->special[static_cast<std::size_t>(id)] != 0;
}

const std::optional<std::string>& Tokenizer::chat_template() const { return impl_->chat_template; }

}  // namespace moesmith::text
