// SPDX-License-Identifier: Apache-2.0
// Text <-> token ids, as a Hugging Face `tokenizer.json` of the BPE kind says: added tokens are cut
// out, the rest is normalised, pre-tokenised and merged, and the post-processor's special tokens
// are put around it. Encodings equal those of Hugging Face's `tokenizers` library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moesmith::text {

// A token that is found in the text before anything else is done to it.
struct AddedToken {
  std::int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // sought in the normalised text
  bool special = false;      // left out by decode(skip_special_tokens)
};

// A token with a role in tokenizer_config.json. `id` is -1 when the vocabulary has no such token.
struct NamedToken {
  std::string content;
  std::int32_t id = -1;
};

// Immutable after load; copies share the tables. All const functions may run on several threads at
// the same time.
class Tokenizer {
 public:
  struct Impl;  // impl.h

  // `path`: a tokenizer.json, or a folder with one. A tokenizer_config.json beside it, when there
  // is one, names the special tokens. Truncation and padding sections are ignored: length is the
  // caller's matter. Throws Error(kNotFound) without the file, Error(kInvalidInput) for a broken
  // one, Error(kUnsupported) for a construct that is not built; the message names file, JSON path
  // and construct.
  static Tokenizer load(const std::filesystem::path& path);

  // Token ids of `text`. Each maximal invalid UTF-8 sequence counts as one U+FFFD, as Python's
  // bytes.decode(errors="replace") has it. `add_special_tokens` runs the post-processor (BOS, EOS).
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const;

  // The text of `ids`, valid UTF-8: bytes that form no character become U+FFFD. Ids without a token
  // (an embedding's padding rows) are passed over.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const;

  // Id of a vocabulary entry or an added token, spelt as in tokenizer.json (byte-level entries are
  // in their printable spelling).
  std::optional<std::int32_t> id_of(std::string_view token) const;
  // Its inverse; "" for an id without a token.
  std::string_view token_of(std::int32_t id) const;
  // One more than the largest id: rows an embedding needs (a model's may have more).
  std::int64_t vocab_size() const;

  // Roles as tokenizer_config.json gives them; nothing where it is silent or null.
  const std::optional<NamedToken>& bos() const;
  const std::optional<NamedToken>& eos() const;
  const std::optional<NamedToken>& pad() const;
  const std::optional<NamedToken>& unk() const;
  // Ordered by id.
  const std::vector<AddedToken>& added_tokens() const;
  bool is_special(std::int32_t id) const;

  // The chat template that lies beside the tokenizer: chat_template.jinja, else chat_template of
  // tokenizer_config.json (of a list of named ones, "default"). Nothing when there is none.
  const std::optional<std::string>& chat_template() const;

 private:
  std::shared_ptr<const Impl> impl_;
};

// Decodes a growing sequence piece by piece, for printing while a model generates. The pieces one
// after the other are decode() of the whole; a character's text comes with its last byte.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);

  // Text that is certain after `id`, perhaps "".
  std::string push(std::int32_t id);
  // What push() still held back.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::vector<std::int32_t> window_;  // ids whose text is not all out, after one settled stretch
  std::size_t settled_ = 0;           // how many of window_ are settled
  std::string emitted_;               // text of the settled ones
};

}  // namespace moesmith::text
