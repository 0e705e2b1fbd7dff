// SPDX-License-Identifier: Apache-2.0
// Each family's chat template against Python's jinja2, over many made-up conversations with and
// without tools.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/rng.h"
#include "core/text.h"
#include "jinja_oracle.h"
#include "moesmith/error.h"
#include "text/chat/chat_template.h"

namespace moesmith::text {
namespace {

namespace fs = std::filesystem;

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : rng_(seed, 0x6a696e6a61) {}
  std::uint64_t below(std::uint64_t bound) { return rng_.below(next_++, bound); }
  bool chance(std::uint64_t percent) { return below(100) < percent; }
  template <std::size_t N>
  const char* of(const char* const (&items)[N]) {
    return items[below(N)];
  }

 private:
  Rng rng_;
  std::uint64_t next_ = 0;
};

std::string words(Draw& draw) {
  static constexpr const char* kPieces[] = {
      "Hello",     " ",          "\n",       "<think>\nhm\n</think>\n\n",
      "</think>",  "'quoted'",   "\"",       "{{ x }}",
      "é中😀",      "<|im_end|>", "\\n",      "<tool_response>\nok\n</tool_response>",
      "a < b & c", "\t",         "{% if %}", "0"};
  std::string out;
  for (std::uint64_t i = draw.below(6); i > 0; --i) out += draw.of(kPieces);
  return out;
}

io::Json any_json(Draw& draw, int depth) {
  switch (draw.below(depth > 0 ? 8 : 6)) {
    case 0:
      return io::Json();
    case 1:
      return io::Json(draw.chance(50));
    case 2:
      return io::Json(static_cast<std::int64_t>(draw.below(1000)) - 500);
    case 3:
      return io::Json(static_cast<double>(draw.below(1000)) / 7.0);
    case 6: {
      io::Json list = io::Json::array();
      for (std::uint64_t i = draw.below(4); i > 0; --i) list.push_back(any_json(draw, depth - 1));
      return list;
    }
    case 7: {
      io::Json object = io::Json::object();
      for (std::uint64_t i = draw.below(4); i > 0; --i) {
        object.set(words(draw), any_json(draw, depth - 1));
      }
      return object;
    }
    default:
      return io::Json(words(draw));
  }
}

io::Json tool_call(Draw& draw) {
  io::Json function = io::Json::object();
  function.set("name", "lookup");
  function.set("arguments", draw.chance(50) ? io::Json("{\"a\": 1}") : any_json(draw, 2));
  io::Json call = io::Json::object();
  call.set("type", "function");
  call.set("function", std::move(function));
  return call;
}

io::Json message(Draw& draw) {
  static constexpr const char* kRoles[] = {"user", "assistant", "assistant", "tool", "system"};
  io::Json out = io::Json::object();
  const std::string role = draw.of(kRoles);
  out.set("role", role);
  out.set("content", words(draw));
  if (role == "assistant" && draw.chance(25)) {
    io::Json calls = io::Json::array();
    for (std::uint64_t i = 1 + draw.below(3); i > 0; --i) calls.push_back(tool_call(draw));
    out.set("tool_calls", std::move(calls));
    if (draw.chance(60)) out.set("content", io::Json());
  }
  if (role == "assistant" && draw.chance(15)) out.set("reasoning_content", words(draw));
  return out;
}

io::Json conversation(Draw& draw) {
  io::Json messages = io::Json::array();
  if (draw.chance(40)) {
    io::Json system = io::Json::object();
    system.set("role", "system");
    system.set("content", words(draw));
    messages.push_back(std::move(system));
  }
  for (std::uint64_t i = 1 + draw.below(6); i > 0; --i) messages.push_back(message(draw));
  return messages;
}

io::Json tools(Draw& draw) {
  if (draw.chance(50)) return {};
  io::Json list = io::Json::array();
  for (std::uint64_t i = 1 + draw.below(2); i > 0; --i) list.push_back(any_json(draw, 3));
  return list;
}

class FamilyTemplate : public testing::TestWithParam<std::string> {};

TEST_P(FamilyTemplate, equals_python_over_many_conversations) {
  const ChatTemplate chat_template =
      ChatTemplate::load(fs::path(MOESMITH_TEST_DATA) / "tokenizers" / GetParam());
  Draw draw(7);
  std::vector<ChatRequest> chats(400);
  std::vector<OracleRequest> requests;
  for (ChatRequest& chat : chats) {
    chat.messages = conversation(draw);
    chat.tools = tools(draw);
    chat.add_generation_prompt = draw.chance(50);
    io::Json variables = io::Json::object();
    for (const char* role : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
      const std::string token = chat_template.special_token(role);
      if (!token.empty()) variables.set(role, token);
    }
    variables.set("messages", chat.messages);
    variables.set("tools", chat.tools);
    variables.set("documents", io::Json());
    variables.set("add_generation_prompt", chat.add_generation_prompt);
    if (draw.chance(30)) {
      chat.variables = io::Json::object();
      chat.variables.set("enable_thinking", draw.chance(50));
      variables.set("enable_thinking", *chat.variables.find("enable_thinking"));
    }
    requests.push_back({chat_template.source(), std::move(variables)});
  }
  const std::vector<io::Json> answers = ask_oracle(requests);
  if (answers.empty()) GTEST_SKIP() << "no python3 here that can import jinja2";
  ASSERT_EQ(answers.size(), chats.size());
  int num_rendered = 0;
  for (std::size_t i = 0; i < chats.size(); ++i) {
    const io::Json* text = answers[i].find("text");
    std::string got, error;
    try {
      got = chat_template.render(chats[i]);
    } catch (const Error& e) {
      error = e.what();
    }
    const std::string asked = requests[i].variables.dump();
    if (text == nullptr) {
      EXPECT_NE(error, "") << "Python: " << answers[i].dump() << "\n" << asked;
      continue;
    }
    ++num_rendered;
    ASSERT_EQ(error, "") << asked;
    ASSERT_EQ(got, text->as_string()) << asked;
  }
  EXPECT_GT(num_rendered, 20);
}

INSTANTIATE_TEST_SUITE_P(
    tokenizers,
    FamilyTemplate,
    testing::Values("byte_level_bos", "deepseek_v3", "qwen3", "sentencepiece_bpe"),
    [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moesmith::text
