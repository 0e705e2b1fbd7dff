// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/text.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"
#include "tokenizer_data.h"

namespace moesmith::text {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

fs::path data_folder(const std::string& name) {
  return fs::path(MOESMITH_TEST_DATA) / "tokenizers" / name;
}

io::Json chat(const std::string& json) { return io::Json::parse(json, "test"); }

class ChatGolden : public testing::TestWithParam<std::string> {};

TEST_P(ChatGolden, renders_and_tokenises_as_transformers) {
  const ChatTemplate chat_template = ChatTemplate::load(data_folder(GetParam()));
  const Tokenizer tokenizer = Tokenizer::load(golden_folder(GetParam()));
  int num_chats = 0;
  for (const io::Json& test : read_lines(data_folder(GetParam()) / "chats.jsonl")) {
    ChatRequest request;
    request.messages = *test.find("messages");
    const std::string text = chat_template.render(request);
    EXPECT_EQ(text, test.find("text")->as_string());
    EXPECT_EQ(tokenizer.encode(text, false), ids_of(*test.find("ids")));
    request.add_generation_prompt = true;
    EXPECT_EQ(chat_template.render(request), test.find("generation_text")->as_string());
    ++num_chats;
  }
  EXPECT_GE(num_chats, 3);
}

INSTANTIATE_TEST_SUITE_P(
    tokenizers,
    ChatGolden,
    testing::Values("byte_level_bos", "deepseek_v3", "qwen3", "sentencepiece_bpe"),
    [](const auto& info) { return info.param; });

class ChatFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / str("moesmith_chat_", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& content) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  std::string render(const ChatTemplateChoice& choice = {}) const {
    ChatRequest request;
    request.messages = chat(R"([{"role": "user", "content": "hi"}])");
    return ChatTemplate::load(folder_, choice).render(request);
  }
  std::string error(const ChatTemplateChoice& choice = {}) const {
    try {
      return "rendered: " + render(choice);
    } catch (const Error& e) {
      return e.what();
    }
  }
  fs::path folder_;
};

TEST_F(ChatFolder, takes_the_file_before_the_key) {
  write("tokenizer_config.json", R"({"chat_template": "key {{ bos_token }}", "bos_token": "<s>"})");
  EXPECT_EQ(render(), "key <s>");
  write("chat_template.jinja", "file {{ messages[0].content }}");
  EXPECT_EQ(render(), "file hi");
}

TEST_F(ChatFolder, knows_named_templates) {
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  write("additional_chat_templates/rag.jinja", "r");
  EXPECT_EQ(render(), "d");
  EXPECT_EQ(render({"tool_use", ""}), "t");
  EXPECT_EQ(render({"rag", ""}), "r");
  EXPECT_EQ(render({"chatml", ""}), "<|im_start|>user\nhi<|im_end|>\n");
  EXPECT_THAT(error({"toool", ""}), HasSubstr("got 'toool', expected tokenizer_default or one of: "
                                              "default rag tool_use chatml"));
}

TEST_F(ChatFolder, takes_an_inline_template_or_a_path) {
  EXPECT_EQ(render({"", "in {{ messages[0].content }}"}), "in hi");
  write("my.jinja", "mine");
  EXPECT_EQ(render({"tokenizer_default", (folder_ / "my.jinja").string()}), "mine");
  EXPECT_THAT(error({"", "nosuch.jinja"}), HasSubstr("chat_template_jinja: got 'nosuch.jinja'"));
}

TEST_F(ChatFolder, says_what_to_do_without_a_template) {
  EXPECT_THAT(error(), HasSubstr("no chat template; set chat_template to one of: chatml"));
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error(), HasSubstr("chat_template: got integer 5"));
  write("tokenizer_config.json", R"({"chat_template": "a\n{{ x.y }}"})");
  EXPECT_THAT(error(), HasSubstr("tokenizer_config.json: chat_template:2: 'x' is undefined"));
}

TEST_F(ChatFolder, reads_special_tokens_of_either_spelling) {
  write("tokenizer_config.json",
        R"({"chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}",
            "bos_token": null, "eos_token": {"content": "</s>"}, "pad_token": "<p>"})");
  write("special_tokens_map.json", R"({"eos_token": "other", "unk_token": {"content": "<u>"}})");
  EXPECT_EQ(render(), "|</s>|<p>|<u>");
  EXPECT_EQ(ChatTemplate::load(folder_).special_token("eos_token"), "</s>");
  EXPECT_EQ(ChatTemplate::load(folder_).special_token("bos_token"), "");
}

TEST(chat_template, passes_tools_and_variables_on) {
  const ChatTemplate chat_template = ChatTemplate::parse(
      "{{ tools is none }} {{ documents is none }} {{ flag }} {{ add_generation_prompt }}", "t");
  ChatRequest request;
  request.variables = chat(R"({"flag": [true]})");
  EXPECT_EQ(chat_template.render(request), "True True [True] False");
  request.tools = chat(R"([{"type": "function"}])");
  request.variables = chat(R"({"add_generation_prompt": 1})");
  EXPECT_EQ(chat_template.render(request), "False True  1");
}

TEST(chat_template, renders_a_long_conversation) {
  const ChatTemplate chat_template = ChatTemplate::load(data_folder("qwen3"));
  ChatRequest request;
  for (int i = 0; i < 4000; ++i) {
    io::Json message = io::Json::object();
    message.set("role", i % 2 == 0 ? "user" : "assistant");
    message.set("content", std::string(4000, 'x'));
    request.messages.push_back(std::move(message));
  }
  EXPECT_GT(chat_template.render(request).size(), 16'000'000u);
}

TEST(chat_template, builtin_ones_render) {
  for (const BuiltinChatTemplate& builtin : builtin_chat_templates()) {
    const ChatTemplate chat_template =
        ChatTemplate::parse(builtin.source, std::string(builtin.name), {{"eos_token", "</s>"}});
    ChatRequest request;
    request.messages =
        chat(R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])");
    const std::string text = chat_template.render(request);
    EXPECT_LT(text.find('Q'), text.find('A')) << builtin.name;
    EXPECT_GT(text.size(), text.find('A') + 1) << builtin.name << ": no end of turn";
  }
}

}  // namespace
}  // namespace moesmith::text
