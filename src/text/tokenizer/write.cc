// SPDX-License-Identifier: Apache-2.0
// Writes a trained tokenizer in Hugging Face's format.
#include <algorithm>

#include "core/text.h"
#include "io/atomic_write.h"
#include "io/json.h"
#include "moesmith/error.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/trainer.h"

namespace moesmith::text {
namespace {

constexpr const char* kChatMl =
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{ '<|im_start|>assistant\\n' }}\n"
    "{%- endif -%}\n";

io::Json make(std::initializer_list<std::pair<const char*, io::Json>> members) {
  io::Json object = io::Json::object();
  for (const auto& [key, value] : members) object.set(key, value);
  return object;
}

io::Json byte_level() {
  return make({{"type", "ByteLevel"},
               {"add_prefix_space", false},
               {"trim_offsets", false},
               {"use_regex", false}});
}

io::Json pre_tokenizer(const std::string& pattern) {
  io::Json stages = io::Json::array();
  stages.push_back(make({{"type", "Split"},
                         {"pattern", make({{"Regex", pattern}})},
                         {"behavior", "Isolated"},
                         {"invert", false}}));
  stages.push_back(byte_level());
  return make({{"type", "Sequence"}, {"pretokenizers", stages}});
}

io::Json model(const TrainedBpe& bpe) {
  io::Json vocab = io::Json::object();
  for (std::size_t id = 0; id < bpe.tokens.size(); ++id) {
    vocab.set(bytes_to_characters(bpe.tokens[id]), static_cast<std::int64_t>(id));
  }
  const auto spelling = [&](std::int32_t id) {
    return io::Json(bytes_to_characters(bpe.tokens[static_cast<std::size_t>(id)]));
  };
  io::Json merges = io::Json::array();
  for (const auto& [left, right] : bpe.merges) {
    io::Json merge = io::Json::array();
    merge.push_back(spelling(left));
    merge.push_back(spelling(right));
    merges.push_back(std::move(merge));
  }
  return make({{"type", "BPE"},
               {"dropout", nullptr},
               {"unk_token", nullptr},
               {"continuing_subword_prefix", nullptr},
               {"end_of_word_suffix", nullptr},
               {"fuse_unk", false},
               {"byte_fallback", false},
               {"ignore_merges", false},
               {"vocab", std::move(vocab)},
               {"merges", std::move(merges)}});
}

io::Json added_tokens(const TrainedBpe& bpe) {
  io::Json list = io::Json::array();
  std::int64_t id = static_cast<std::int64_t>(bpe.tokens.size());
  for (const std::string& token : bpe.options.special_tokens) {
    list.push_back(make({{"id", id++},
                         {"content", token},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}}));
  }
  return list;
}

void check_is_special(const std::string& token, const TrainedBpe& bpe, const char* role) {
  const auto& special = bpe.options.special_tokens;
  if (std::find(special.begin(), special.end(), token) == special.end()) {
    throw Error(ErrorCode::kInvalidInput,
                str(role, ": got \"", token, "\", expected one of the special tokens"));
  }
}

}  // namespace

void write_tokenizer(const std::string& folder,
                     const TrainedBpe& bpe,
                     const TokenizerConfig& config) {
  check_is_special(config.eos_token, bpe, "eos_token");
  check_is_special(config.pad_token, bpe, "pad_token");
  const io::Json tokenizer = make({{"version", "1.0"},
                                   {"truncation", nullptr},
                                   {"padding", nullptr},
                                   {"added_tokens", added_tokens(bpe)},
                                   {"normalizer", nullptr},
                                   {"pre_tokenizer", pre_tokenizer(bpe.options.pattern)},
                                   {"post_processor", byte_level()},
                                   {"decoder", byte_level()},
                                   {"model", model(bpe)}});
  const io::Json roles = make({{"tokenizer_class", "PreTrainedTokenizerFast"},
                               {"add_bos_token", false},
                               {"add_prefix_space", false},
                               {"bos_token", nullptr},
                               {"eos_token", config.eos_token},
                               {"pad_token", config.pad_token},
                               {"unk_token", nullptr},
                               {"clean_up_tokenization_spaces", false},
                               {"model_max_length", std::int64_t{131072}},
                               {"chat_template", kChatMl}});
  io::JsonFormat format;
  format.indent = 1;
  format.ascii = false;
  io::make_directories(folder);
  io::write_file(folder + "/tokenizer.json", tokenizer.dump(format) + "\n");
  io::write_file(folder + "/tokenizer_config.json", roles.dump(format) + "\n");
}

}  // namespace moesmith::text
