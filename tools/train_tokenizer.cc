// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE tokenizer from text files and writes it as Hugging Face's tokenizer.json.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "core/text.h"
#include "io/atomic_write.h"
#include "io/json.h"
#include "moesmith/error.h"
#include "text/tokenizer/trainer.h"

namespace {

using namespace moesmith;

constexpr const char* kUsage =
    "usage: moesmith_train_tokenizer CORPUS... --output FOLDER [--vocab-size N]\n"
    "           [--special-tokens TOKEN...] [--eos-token TOKEN] [--pad-token TOKEN]\n"
    "CORPUS: a .jsonl file, whose rows' strings are texts, or a file of plain text.\n"
    "Writes FOLDER/tokenizer.json and tokenizer_config.json. N (4096) counts the special tokens\n"
    "(<|endoftext|> <|im_start|> <|im_end|>); eos is <|im_end|> and pad <|endoftext|>.\n";

struct Arguments {
  std::vector<std::string> corpora;
  std::string output;
  text::TrainerOptions trainer;
  text::TokenizerConfig config;
};

std::int64_t parse_count(const std::string& text) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0) {
    throw Error(ErrorCode::kInvalidInput,
                str("--vocab-size: got \"", text, "\", expected a count"));
  }
  return value;
}

Arguments parse(const std::vector<std::string>& argv) {
  Arguments out;
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& flag = argv[i];
    if (!flag.starts_with("--")) {
      out.corpora.push_back(flag);
      continue;
    }
    if (flag == "--special-tokens") {
      out.trainer.special_tokens.clear();
      while (i + 1 < argv.size() && !argv[i + 1].starts_with("--")) {
        out.trainer.special_tokens.push_back(argv[++i]);
      }
      continue;
    }
    if (i + 1 == argv.size()) throw Error(ErrorCode::kInvalidInput, flag + ": expected a value");
    const std::string& value = argv[++i];
    if (flag == "--output") {
      out.output = value;
    } else if (flag == "--vocab-size") {
      out.trainer.vocab_size = parse_count(value);
    } else if (flag == "--eos-token") {
      out.config.eos_token = value;
    } else if (flag == "--pad-token") {
      out.config.pad_token = value;
    } else {
      throw Error(ErrorCode::kInvalidInput, flag + ": no such option");
    }
  }
  if (out.corpora.empty()) throw Error(ErrorCode::kInvalidInput, "expected a CORPUS file");
  if (out.output.empty()) throw Error(ErrorCode::kInvalidInput, "expected --output FOLDER");
  return out;
}

void add_strings(const io::Json& value, text::BpeTrainer& trainer) {
  if (value.is_string()) {
    trainer.add(value.as_string());
  } else if (value.is_array()) {
    for (const io::Json& item : value.as_array()) add_strings(item, trainer);
  } else if (value.is_object()) {
    const io::JsonObject& object = value.as_object();
    for (std::size_t i = 0; i < object.size(); ++i) add_strings(object.value(i), trainer);
  }
}

void add_corpus(const std::string& path, text::BpeTrainer& trainer) {
  const std::string content = io::read_file(path);
  if (!path.ends_with(".jsonl")) {
    trainer.add(content);
    return;
  }
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      add_strings(io::Json::parse(line, str(path, " row ", number)), trainer);
    }
    begin = end + 1;
  }
}

int run(const std::vector<std::string>& argv) {
  if (argv.empty() || argv.front() == "--help") {
    std::cout << kUsage;
    return argv.empty() ? 2 : 0;
  }
  const Arguments arguments = parse(argv);
  text::BpeTrainer trainer(arguments.trainer);
  for (const std::string& path : arguments.corpora) add_corpus(path, trainer);
  const text::TrainedBpe bpe = trainer.train();
  text::write_tokenizer(arguments.output, bpe, arguments.config);
  std::cout << arguments.output
            << "/tokenizer.json: " << bpe.tokens.size() + bpe.options.special_tokens.size()
            << " tokens, " << bpe.merges.size() << " merges\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const Error& error) {
    std::cerr << "moesmith_train_tokenizer: " << error.what() << "\n" << kUsage;
    return error.code() == ErrorCode::kIo || error.code() == ErrorCode::kInternal ? 1 : 2;
  } catch (const std::exception& error) {
    std::cerr << "moesmith_train_tokenizer: " << error.what() << "\n";
    return 1;
  }
}
