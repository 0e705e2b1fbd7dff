// SPDX-License-Identifier: Apache-2.0
// Which tokens of each kind of row are trained, read back as text with what is trained in brackets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data_tokenizers.h"
#include "moesmith/error.h"
#include "temp_folder.h"
#include "train/data/batches.h"
#include "train/data/chat_spans.h"
#include "train/data/load.h"

namespace moesmith::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class DataMasks : public testing::Test {
 protected:
  DataMasks() { options_.sequence_len = 4096; }

  void use(const std::string& name) {
    static std::map<std::string, text::Tokenizer> loaded;  // a large vocabulary takes a while
    folder_ = tokenizer_folder(name);
    auto found = loaded.find(name);
    if (found == loaded.end()) found = loaded.emplace(name, text::Tokenizer::load(folder_)).first;
    tokenizer_ = found->second;
  }

  Dataset load(const std::string& rows) {
    spill(files_ / "rows.jsonl", rows);
    dataset_.path = files_ / "rows.jsonl";
    counts_ = {};
    return load_dataset(dataset_, options_, *tokenizer_, folder_, counts_);
  }

  std::vector<std::string> masks(const std::string& rows) {
    const Dataset data = load(rows);
    std::vector<std::string> out;
    for (std::int64_t i = 0; i < data.size(); ++i) out.push_back(marked(*tokenizer_, data, i));
    return out;
  }
  std::string mask(const std::string& row) {
    const auto all = masks(row);
    return all.size() == 1 ? all[0] : "samples: " + std::to_string(all.size());
  }

  std::string error(const std::string& rows) {
    try {
      load(rows);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  void chat() {
    use("qwen3");
    dataset_.type = PromptType::kChatTemplate;
  }

  TempFolder files_;
  TrainOptions options_;
  DatasetOptions dataset_;
  std::string folder_;
  std::optional<text::Tokenizer> tokenizer_;
  DataCounts counts_;
};

constexpr const char* kTwoTurns =
    R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"}, {"role": "user", "content": "and 3+3?"},
        {"role": "assistant", "content": "6"}]})";

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

TEST_F(DataMasks, chat_trains_the_assistant_and_its_end_token) {
  chat();
  EXPECT_EQ(mask(one_line(kTwoTurns)),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
            "<|im_start|>assistant\n[4<|im_end|>]\n<|im_start|>user\nand 3+3?<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n[6<|im_end|>]\n");
}

TEST_F(DataMasks, chat_follows_the_end_token_policy) {
  chat();
  const std::string row = one_line(kTwoTurns);
  dataset_.train_on_eos = EosTraining::kNone;
  EXPECT_THAT(mask(row), HasSubstr("[4]<|im_end|>\n"));
  EXPECT_THAT(mask(row), HasSubstr("[6]<|im_end|>\n"));
  dataset_.train_on_eos = EosTraining::kLast;
  EXPECT_THAT(mask(row), HasSubstr("[4]<|im_end|>\n"));
  EXPECT_THAT(mask(row), HasSubstr("[6<|im_end|>]\n"));
  dataset_.train_on_eos = EosTraining::kAll;
  EXPECT_THAT(mask(row), HasSubstr("Be brief.[<|im_end|>]\n"));
  EXPECT_THAT(mask(row), HasSubstr("2+2?[<|im_end|>]\n"));
  EXPECT_THAT(mask(row), HasSubstr("[4<|im_end|>]\n"));
}

TEST_F(DataMasks, chat_trains_other_roles_when_asked) {
  chat();
  dataset_.roles_to_train = {"user"};
  EXPECT_THAT(mask(one_line(kTwoTurns)), HasSubstr("user\n[2+2?<|im_end|>]\n"));
  EXPECT_THAT(mask(one_line(kTwoTurns)), HasSubstr("assistant\n4<|im_end|>\n"));
  dataset_.roles_to_train = {"all"};
  EXPECT_THAT(mask(one_line(kTwoTurns)), HasSubstr("system\n[Be brief.<|im_end|>]\n"));
  options_.train_on_inputs = true;
  EXPECT_EQ(mask(one_line(kTwoTurns)).find('['), 0u);
  EXPECT_EQ(mask(one_line(kTwoTurns)).find(']'), mask(one_line(kTwoTurns)).size() - 1);
}

TEST_F(DataMasks, chat_heeds_the_flag_of_a_message) {
  chat();
  dataset_.message_field_training = "train";
  const std::string got = mask(
      R"({"messages": [{"role": "user", "content": "a", "train": true}, {"role": "assistant", "content": "b", "train": false}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "train": null}]})");
  EXPECT_EQ(got,
            "<|im_start|>user\n[a<|im_end|>]\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n[d<|im_end|>]\n");
}

TEST_F(DataMasks, chat_reads_sharegpt_names) {
  chat();
  dataset_.field_messages = "conversations";
  dataset_.message_property_mappings = {{"role", "from"}, {"content", "value"}};
  dataset_.roles = {{"user", {"customer"}}};
  dataset_.drop_system_message = true;
  EXPECT_EQ(
      mask(
          R"({"conversations": [{"from": "system", "value": "s"}, {"from": "customer", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "r"}]})"),
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n"
      "<|im_start|>user\nr<|im_end|>\n");
}

TEST_F(DataMasks, chat_finds_words_that_the_template_changes) {
  chat();
  // Qwen3 drops the reasoning of earlier turns and lays out that of the last one.
  EXPECT_EQ(
      mask(
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nok"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}]})"),
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ok<|im_end|>]\n"
      "<|im_start|>user\nq<|im_end|>\n"
      "<|im_start|>assistant\n<think>\n[hm\n</think>\n\nyes<|im_end|>]\n");
}

TEST_F(DataMasks, chat_tells_turns_with_the_same_words_apart) {
  chat();
  EXPECT_EQ(
      mask(
          R"({"messages": [{"role": "user", "content": "yes"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "yes<|im_end|>\n<|im_start|>assistant\nyes"}, {"role": "assistant", "content": ""}]})"),
      "<|im_start|>user\nyes<|im_end|>\n<|im_start|>assistant\n[yes<|im_end|>]\n"
      "<|im_start|>user\nyes<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
      "<|im_start|>assistant\n<think>\n\n</think>\n\n[<|im_end|>]\n");
}

TEST_F(DataMasks, chat_trains_calls_of_tools) {
  chat();
  const std::string got = mask(
      R"({"tools": "[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}]", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "Wait.", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "2"}]})");
  EXPECT_THAT(got, HasSubstr("<tools>\n{\"type\": \"function\""));
  EXPECT_THAT(got, HasSubstr("[Wait.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n"
                             "</tool_call><|im_end|>]\n"));
  EXPECT_THAT(got, HasSubstr("<tool_response>\n2\n</tool_response><|im_end|>\n"));
}

TEST_F(DataMasks, chat_bounds_a_turn_whose_words_change_later_turns) {
  use("deepseek_v3");
  dataset_.type = PromptType::kChatTemplate;
  const std::string call =
      R"({"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}, {"type": "function", "function": {"name": "g", "arguments": "{}"}}]})";
  const std::string got =
      mask(R"({"messages": [{"role": "user", "content": "q"}, )" + call +
           R"(, {"role": "tool", "content": "t"}, {"role": "assistant", "content": "done"}]})");
  EXPECT_THAT(got, HasSubstr("<｜User｜>q<｜Assistant｜>[<｜tool▁calls▁begin｜>"));
  EXPECT_THAT(got, HasSubstr("<｜tool▁calls▁end｜><｜end▁of▁sentence｜>]"));
  EXPECT_THAT(got, HasSubstr("<｜tool▁outputs▁begin｜>"));
  EXPECT_THAT(got, HasSubstr("<｜tool▁outputs▁end｜>[done<｜end▁of▁sentence｜>]"));
}

TEST_F(DataMasks, chat_takes_the_space_that_joins_a_word) {
  use("sentencepiece_bpe");
  dataset_.type = PromptType::kChatTemplate;
  EXPECT_EQ(
      mask(
          R"({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "four it is"}]})"),
      "<s>  [INST] 2+2? [/INST][ four it is</s>]");  // SentencePiece's own space behind <s>
}

TEST_F(DataMasks, chat_works_where_the_tokenizer_normalises_the_text) {
  chat();
  // A decomposed letter: the tokenizer composes it, so tokens do not give the text back.
  EXPECT_EQ(mask("{\"messages\": [{\"role\": \"user\", \"content\": \"e\\u0301\"}, {\"role\": "
                 "\"assistant\", \"content\": \"A e\\u0301 B\"}]}"),
            "<|im_start|>user\n\u00e9<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n[A \u00e9 B<|im_end|>]\n");
}

TEST_F(DataMasks, chat_uses_the_template_that_is_asked_for) {
  chat();
  options_.chat_template_jinja =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{{ extra }}{% endfor %}";
  options_.chat_template_kwargs = R"({"extra": "!"})";
  options_.eot_tokens = {"<|endoftext|>"};
  const std::string row =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})";
  EXPECT_EQ(mask(row), "user: q<|endoftext|>!assistant:[ a<|endoftext|>]!");
  dataset_.train_on_eot = EosTraining::kNone;
  EXPECT_EQ(mask(row), "user: q<|endoftext|>!assistant:[ a]<|endoftext|>!");
  dataset_.chat_template = "chatml";
  EXPECT_EQ(mask(row), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n");
  options_.eot_tokens = {"<nosuch>"};
  EXPECT_THAT(error(row), HasSubstr("eot_tokens: got '<nosuch>'"));
}

TEST_F(DataMasks, chat_trains_a_special_token_that_ends_a_turn_without_being_named) {
  chat();
  options_.chat_template_jinja =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}";
  EXPECT_EQ(
      mask(
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"),
      "user: q<|endoftext|>assistant:[ a<|endoftext|>]");
}

TEST_F(DataMasks, chat_names_what_is_wrong_with_a_row) {
  chat();
  const auto expect = [&](const std::string& row, const std::string& what) {
    EXPECT_THAT(error("{\"messages\": []}\n" + row), HasSubstr("rows.jsonl:2: " + what)) << row;
  };
  expect(R"({"text": "a"})", "messages: is missing, expected an array of messages");
  expect(R"({"messages": "a"})", "messages: got string \"a\", expected an array of messages");
  expect(R"({"messages": [5]})", "messages[0]: got integer 5, expected a message");
  expect(R"({"messages": [{"content": "a"}]})", "messages[0]: role: is missing, expected a string");
  expect(R"({"messages": [{"role": 1, "content": "a"}]})", "messages[0]: role: got integer 1");
  expect(R"({"messages": [{"role": "user"}]})", "messages[0]: content: is missing");
  expect(R"({"messages": [{"role": "user", "content": {"a": 1}}]})", "messages[0]: content: got");
  expect(R"({"tools": {"a": 1}, "messages": [{"role": "user", "content": "a"}]})", "tools: got");
  expect(R"({"tools": "{", "messages": [{"role": "user", "content": "a"}]})", "tools");
  dataset_.message_field_training = "train";
  expect(R"({"messages": [{"role": "user", "content": "a", "train": "no"}]})",
         "messages[0]: train: got string \"no\", expected true or false");
  options_.chat_template_jinja = "{{ raise_exception('no system') }}";
  expect(R"({"messages": [{"role": "user", "content": "a"}]})",
         "chat_template_jinja:1: the template refuses: no system");
  options_.chat_template_jinja =
      "{{ messages | length }}{% for m in messages %}{{ m.role }}{% endfor %}";
  expect(R"({"messages": [{"role": "assistant", "content": "a"}]})",
         "message 0: its words cannot be told apart");
}

TEST_F(DataMasks, counts_what_becomes_of_rows) {
  chat();
  options_.sequence_len = 20;
  const std::string line = [](const std::string& role, const std::string& words) {
    return R"({"messages": [{"role": "user", "content": "q"}, {"role": ")" + role +
           R"(", "content": ")" + words + "\"}]}\n";
  }("assistant", "a");
  const Dataset data = load(
      line +
      R"({"messages": []})"
      "\n" +
      R"({"messages": [{"role": "user", "content": "only"}]})"
      "\n" +
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "one two three four five six seven eight nine"}]})");
  EXPECT_EQ(data.size(), 1);
  EXPECT_EQ(counts_.rows, 4);
  EXPECT_EQ(counts_.samples, 1);
  EXPECT_EQ(counts_.dropped_too_short, 1);
  EXPECT_EQ(counts_.dropped_untrained, 1);
  EXPECT_EQ(counts_.dropped_too_long, 1);
  EXPECT_EQ(counts_.tokens, data.num_tokens());
  EXPECT_EQ(counts_.trained_tokens, 2);
  EXPECT_EQ(data.num_trained_tokens(), 2);
}

TEST_F(DataMasks, alpaca_trains_the_answer) {
  use("qwen3");
  dataset_.type = PromptType::kAlpaca;
  EXPECT_EQ(mask(R"({"instruction": "Add.", "input": "1 2", "output": "3"})"),
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n[3<|im_end|>]");
  EXPECT_EQ(mask(R"({"instruction": "Hi", "input": "", "output": "Ho", "text": "ignored"})"),
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nHi\n\n### Response:\n[Ho<|im_end|>]");
  use("byte_level_bos");  // adds BOS and EOS by its post-processor
  EXPECT_THAT(mask(R"({"instruction": "Hi", "output": "Ho"})"),
              testing::AllOf(testing::StartsWith("<|bos|>Below"),
                             testing::EndsWith("Response:\n[Ho<|eos|>]")));
  EXPECT_THAT(error(R"({"instruction": "Hi"})"), HasSubstr("rows.jsonl:1: output: is missing"));
}

TEST_F(DataMasks, completion_trains_everything_in_pieces) {
  use("qwen3");
  dataset_.type = PromptType::kCompletion;
  EXPECT_EQ(mask(R"({"text": "Once upon a time."})"), "[Once upon a time.<|im_end|>]");
  options_.sequence_len = 3;
  options_.min_sample_len = 1;
  EXPECT_THAT(masks(R"({"text": "one two three four five six"})"),
              ElementsAre("[one two three]", "[ four five six]"));
  EXPECT_EQ(counts_.rows, 1);
  EXPECT_EQ(counts_.dropped_untrained, 1);  // the end token alone: nothing predicts it
}

TEST_F(DataMasks, packing_keeps_samples_and_labels) {
  chat();
  std::string rows;
  for (int i = 0; i < 40; ++i) {
    rows += R"({"messages": [{"role": "user", "content": ")" + std::string(i % 7, 'x') +
            R"("}, {"role": "assistant", "content": ")" + std::to_string(i * i) + "\"}]}\n";
  }
  const Dataset data = load(rows);
  ASSERT_EQ(data.size(), 40);
  using Pair = std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>;
  const auto segments = [&](bool packing) {
    Batches batches(data,
                    {.micro_batch_size = 2, .sequence_len = 64, .packing = packing, .seed = 5});
    std::multiset<Pair> found;
    for (std::int64_t b = 0; b < batches.count(1); ++b) {
      const model::Batch batch = batches.batch(1, b);
      for (std::size_t s = 0; s + 1 < batch.segment_offsets.size(); ++s) {
        const auto begin = batch.segment_offsets[s], end = batch.segment_offsets[s + 1];
        EXPECT_EQ(batch.position_ids[static_cast<std::size_t>(begin)], 0);
        EXPECT_EQ(batch.labels[static_cast<std::size_t>(end) - 1], -100);
        found.emplace(Pair{{batch.input_ids.begin() + begin, batch.input_ids.begin() + end},
                           {batch.labels.begin() + begin, batch.labels.begin() + end}});
      }
    }
    return found;
  };
  EXPECT_EQ(segments(true).size(), 40u);
  EXPECT_EQ(segments(true), segments(false));
}

}  // namespace
}  // namespace moesmith::train
