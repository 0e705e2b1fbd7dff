// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_data.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "core/text.h"
#include "io/atomic_write.h"

namespace moesmith::text {
namespace fs = std::filesystem;
namespace {

// Tests of one build may run at the same time: the file appears whole or not at all.
void unpack(const fs::path& packed, const fs::path& target) {
  if (fs::exists(target) && fs::last_write_time(target) >= fs::last_write_time(packed)) return;
  const fs::path part = str(target.string(), ".", getpid());
  const std::string command = str("xz -dc '", packed.string(), "' > '", part.string(), "'");
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
  fs::rename(part, target);
}

}  // namespace

fs::path golden_file(const std::string& name) {
  const fs::path to = fs::path(MOESMITH_BINARY_DIR) / "test_data" / "tokenizers";
  fs::create_directories(to);
  unpack(fs::path(MOESMITH_TEST_DATA) / "tokenizers" / (name + ".xz"), to / name);
  return to / name;
}

fs::path golden_folder(const std::string& name) {
  const fs::path from = fs::path(MOESMITH_TEST_DATA) / "tokenizers" / name;
  const fs::path to = fs::path(MOESMITH_BINARY_DIR) / "test_data" / "tokenizers" / name;
  fs::create_directories(to);
  for (const char* file : {"tokenizer.json", "cases.jsonl"}) {
    unpack(from / str(file, ".xz"), to / file);
  }
  const fs::path part = str((to / "tokenizer_config.json").string(), ".", getpid());
  fs::copy_file(from / "tokenizer_config.json", part, fs::copy_options::overwrite_existing);
  fs::rename(part, to / "tokenizer_config.json");
  return to;
}

std::vector<io::Json> read_lines(const fs::path& path) {
  std::istringstream in(io::read_file(path.string()));
  std::vector<io::Json> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(io::Json::parse(line, path.string()));
  }
  return lines;
}

std::vector<std::int32_t> ids_of(const io::Json& list) {
  std::vector<std::int32_t> ids;
  for (const io::Json& id : list.as_array()) {
    ids.push_back(static_cast<std::int32_t>(id.as_integer()));
  }
  return ids;
}

TokenizerFolder::TokenizerFolder(const std::string& content, const std::string& config) {
  std::string name = (fs::temp_directory_path() / "moesmith_tokenizer_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
  std::ofstream(path_ / "tokenizer.json") << content;
  if (!config.empty()) std::ofstream(path_ / "tokenizer_config.json") << config;
}

TokenizerFolder::~TokenizerFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace moesmith::text
