// SPDX-License-Identifier: Apache-2.0
// Each construct of tokenizer.json alone, against what Hugging Face's `tokenizers` gives
// (tests/data/tokenizers/make_construct_cases.py).
#include <gtest/gtest.h>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer_data.h"

namespace moesmith::text {
namespace {

// The base's tokenizer.json with the patch's sections in place of its own.
io::Json patched(const io::Json& line) {
  const auto base = golden_folder(line.find("base")->as_string()) / "tokenizer.json";
  io::Json tokenizer = io::read_json(base.string()).value;
  const io::JsonObject& patch = line.find("patch")->as_object();
  for (std::size_t i = 0; i < patch.size(); ++i) {
    if (patch.key(i) != "model" || patch.value(i).find("vocab") != nullptr) {
      tokenizer.set(patch.key(i), patch.value(i));
      continue;
    }
    const io::JsonObject& keys = patch.value(i).as_object();
    io::Json& model = *tokenizer.as_object().find("model");
    for (std::size_t k = 0; k < keys.size(); ++k) model.set(keys.key(k), keys.value(k));
  }
  return tokenizer;
}

TEST(TokenizerConstruct, equals_hugging_face_for_each) {
  const auto lines = read_lines(golden_file("constructs.jsonl"));
  ASSERT_EQ(lines.size(), 100u);
  for (const io::Json& line : lines) {
    SCOPED_TRACE(line.find("name")->as_string());
    const TokenizerFolder folder(patched(line).dump());
    const Tokenizer tokenizer = Tokenizer::load(folder.path());
    for (const io::Json& item : line.find("cases")->as_array()) {
      const std::string& text = item.as_array()[0].as_string();
      const auto ids = ids_of(item.as_array()[1]);
      EXPECT_EQ(tokenizer.encode(text, false), ids) << "text: " << text;
      EXPECT_EQ(tokenizer.encode(text, true), ids_of(item.as_array()[2])) << "text: " << text;
      EXPECT_EQ(tokenizer.decode(ids, true), item.as_array()[3].as_string());
    }
  }
}

}  // namespace
}  // namespace moesmith::text
