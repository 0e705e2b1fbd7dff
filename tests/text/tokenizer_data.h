// SPDX-License-Identifier: Apache-2.0
// The tokenizers under tests/data/tokenizers, unpacked into the build folder, and tokenizers made
// up for one test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/json.h"

namespace moesmith::text {

// A folder with tokenizer.json, tokenizer_config.json and cases.jsonl of tests/data/tokenizers.
std::filesystem::path golden_folder(const std::string& name);

// A packed file of tests/data/tokenizers, unpacked.
std::filesystem::path golden_file(const std::string& name);

// The lines of a JSONL file.
std::vector<io::Json> read_lines(const std::filesystem::path& path);

std::vector<std::int32_t> ids_of(const io::Json& list);

// A fresh folder holding tokenizer.json with `content`; removed with the object.
class TokenizerFolder {
 public:
  explicit TokenizerFolder(const std::string& content, const std::string& config = "");
  ~TokenizerFolder();
  TokenizerFolder(const TokenizerFolder&) = delete;
  TokenizerFolder& operator=(const TokenizerFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moesmith::text
