// SPDX-License-Identifier: Apache-2.0
#include "data_tokenizers.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "core/text.h"

namespace moesmith::train {

namespace fs = std::filesystem;

std::string tokenizer_folder(const std::string& name) {
  const fs::path from = fs::path(MOESMITH_TEST_DATA) / "tokenizers" / name;
  const fs::path to = fs::path(MOESMITH_BINARY_DIR) / "test_data" / "train_tokenizers" / name;
  fs::create_directories(to);
  if (!fs::exists(to / "tokenizer.json")) {
    const fs::path part = to / str("tokenizer.json.", ::getpid());
    const std::string command =
        str("xz -dc '", (from / "tokenizer.json.xz").string(), "' > '", part.string(), "'");
    if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
    fs::rename(part, to / "tokenizer.json");
  }
  const fs::path part = to / str("tokenizer_config.json.", ::getpid());
  fs::copy_file(from / "tokenizer_config.json", part, fs::copy_options::overwrite_existing);
  fs::rename(part, to / "tokenizer_config.json");
  return to.string();
}

std::string marked(const text::Tokenizer& tokenizer, const Dataset& data, std::int64_t sample) {
  const auto ids = data.input_ids(sample);
  const auto trained = data.trained(sample);
  std::string out;
  text::StreamDecoder decoder(tokenizer, false);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool before = i > 0 && trained[i - 1] != 0;
    if (before != (trained[i] != 0)) out += before ? "]" : "[";
    out += decoder.push(ids[i]);
  }
  out += decoder.finish();
  return !trained.empty() && trained.back() != 0 ? out + "]" : out;
}

}  // namespace moesmith::train
