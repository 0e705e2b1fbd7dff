// SPDX-License-Identifier: Apache-2.0
// Reads the BPE model of a tokenizer.json and checks that its merges fit its vocabulary.
#include <utility>

#include "core/text.h"
#include "moesmith/error.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/construct.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {
namespace {

// One merge, written "left right" or ["left", "right"].
std::pair<std::string_view, std::string_view> parse_merge(const io::JsonRef& merges,
                                                          std::size_t i) {
  const io::Json& item = merges.value().as_array()[i];
  if (item.is_string()) {
    const std::string_view text = item.as_string();
    const std::size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (item.is_array() && item.as_array().size() == 2 && item.as_array()[0].is_string() &&
             item.as_array()[1].is_string()) {
    return {item.as_array()[0].as_string(), item.as_array()[1].as_string()};
  }
  merges.at(i).fail(str("got ", item.describe(), ", expected a merge: two tokens"));
}

}  // namespace

Bpe Bpe::load(const io::JsonRef& node, bool byte_level) {
  const std::string type = node.get_string("type", "BPE");
  if (type != "BPE") refuse_construct(node, "model", type);
  if (node.get_number("dropout", 0.0) != 0.0) {
    throw Error(ErrorCode::kUnsupported, str(node.source(), ": ", node.path(),
                                             ".dropout: encoding at random is not supported"));
  }
  Bpe bpe;
  bpe.path_ = str(node.source(), ": ", node.path());
  if (const auto unk = node.find("unk_token")) bpe.unk_token_ = unk->as_string();
  bpe.subword_prefix_ = node.get_string("continuing_subword_prefix", "");
  bpe.word_suffix_ = node.get_string("end_of_word_suffix", "");
  bpe.fuse_unk_ = node.get_bool("fuse_unk", false);
  bpe.byte_fallback_ = node.get_bool("byte_fallback", false);
  bpe.ignore_merges_ = node.get_bool("ignore_merges", false);
  // A prefix or suffix depends on where a word ends; whole words may be in the vocabulary.
  bpe.cuttable_ =
      !byte_level && !bpe.ignore_merges_ && bpe.subword_prefix_.empty() && bpe.word_suffix_.empty();
  bpe.load_vocabulary(node.at("vocab"));
  bpe.load_merges(node.at("merges"));
  return bpe;
}

void Bpe::load_vocabulary(const io::JsonRef& node) {
  if (!node.value().is_object()) {
    node.fail(str("got ", node.value().describe(), ", expected an object of tokens and ids"));
  }
  const io::JsonObject& vocab = node.value().as_object();
  vocabulary_.reserve(vocab.size());
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    const io::Json& value = vocab.value(i);
    const std::int64_t id = value.is_integer() ? value.as_integer() : -1;
    if (id < 0 || id >= Vocabulary::kMaxIds) {
      node.at(vocab.key(i))
          .fail(str("got ", value.describe(), ", expected an id from 0 to ",
                    Vocabulary::kMaxIds - 1));
    }
    if (!vocabulary_.add(vocab.key(i), static_cast<std::int32_t>(id))) {
      node.fail(str("the id ", id, " is given to \"",
                    vocabulary_.token(static_cast<std::int32_t>(id)), "\" and to \"", vocab.key(i),
                    "\""));
    }
  }
}

void Bpe::load_merges(const io::JsonRef& node) {
  if (!node.value().is_array()) {
    node.fail(str("got ", node.value().describe(), ", expected an array of merges"));
  }
  const std::size_t count = node.size();
  merges_ = MergeTable(count);
  std::string joined;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [left, right] = parse_merge(node, i);
    const auto known = [&](std::string_view token) {
      const std::int32_t id = vocabulary_.find(token);
      if (id < 0) node.at(i).fail(str("the token \"", token, "\" is not in the vocabulary"));
      return id;
    };
    const std::int32_t left_id = known(left);
    const std::int32_t right_id = known(right);
    if (right.size() < subword_prefix_.size()) {
      node.at(i).fail(str("\"", right, "\" is shorter than continuing_subword_prefix"));
    }
    joined.assign(left);
    joined += right.substr(subword_prefix_.size());
    merges_.set(left_id, right_id, {static_cast<std::int32_t>(i), known(joined)});
    if (cuttable_) add_bigrams(joined);
  }
}

void Bpe::add_bigrams(std::string_view token) {
  std::size_t at = 0;
  char32_t left = unicode::next(token, at);
  while (at < token.size()) {
    const char32_t right = unicode::next(token, at);
    bigrams_.insert(bigram_key(left, right));
    left = right;
  }
}

}  // namespace moesmith::text
