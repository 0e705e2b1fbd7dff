// SPDX-License-Identifier: Apache-2.0
// The commands that need a model, one after the other on a tiny one: train, explain, inference,
// merge-lora, and what Ctrl-C does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "process.h"
#include "tiny_model.h"

namespace moesmith::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class training : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_tiny_model(*folder_);
    base_ = new Outcome(train_tiny_base(*folder_));
  }
  static void TearDownTestSuite() {
    delete base_;
    delete folder_;
  }

  void SetUp() override { ASSERT_EQ(base_->exit_code, 0) << base_->err << base_->out; }

  Outcome run(std::vector<std::string> arguments, ProcessOptions options = {}) {
    options.folder = folder_->path();
    return run_command(arguments, options);
  }
  std::string path(const std::string& name) const { return folder_->path() + "/" + name; }

  static TemporaryFolder* folder_;
  static Outcome* base_;
};
TemporaryFolder* training::folder_ = nullptr;
Outcome* training::base_ = nullptr;

TEST_F(training, all_weights_from_config_json_alone) {
  EXPECT_TRUE(exists(path("base/model.safetensors")));
  EXPECT_THAT(base_->out, HasSubstr("step 4/4  epoch"));
  EXPECT_THAT(base_->out, HasSubstr("weights:       base"));
}

TEST_F(training, train_then_use_then_merge) {
  folder_->write("lora.yml",
                 tiny_lora_yaml("max_steps: 6\nval_set_size: 0.2\nevals_per_epoch: 1\n"));
  const Outcome trained =
      run({"train", "lora.yml", "--output-dir", "flow", "--sample-prompts", "Say 3."});
  ASSERT_EQ(trained.exit_code, 0) << trained.err << trained.out;
  EXPECT_THAT(trained.out, HasSubstr("layers.{0-1}.self_attn.q_proj.lora_A"));
  EXPECT_THAT(trained.out, HasSubstr("layers.{0-1}.mlp.experts.base_layer.lora_B"));
  EXPECT_THAT(trained.out, HasSubstr("held-out loss: "));
  EXPECT_THAT(trained.out, HasSubstr("sample before training:"));
  EXPECT_THAT(trained.out, HasSubstr("sample after training:"));
  EXPECT_THAT(trained.out, HasSubstr("adapter:       flow"));
  EXPECT_THAT(trained.out, Not(HasSubstr("\x1b")));
  EXPECT_TRUE(exists(path("flow/adapter_model.safetensors")) &&
              exists(path("flow/adapter_config.json")));

  const std::vector<std::string> use = {"inference", "lora.yml",         "--output-dir",
                                        "flow",      "--max-new-tokens", "8"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), use.begin(), use.end());
    return more;
  };
  const Outcome reply = run(with({"--prompt", "Say 3."}));
  EXPECT_EQ(reply.exit_code, 0) << reply.err;
  EXPECT_FALSE(reply.out.empty());
  EXPECT_EQ(run(with({}), {.input = "Say 3.\n"}).out, reply.out);
  EXPECT_NE(run(with({"--seed", "7", "--prompt", "Say 3."})).out, reply.out);
  EXPECT_EQ(run(with({}), {.input = "\n"}).exit_code, 2);
  const Outcome chat = run(with({"--chat"}), {.input = "Say 3.\n/new\nSay 4.\n/quit\nnot read\n"});
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_FALSE(chat.out.empty());

  const Outcome merged = run({"merge-lora", "lora.yml", "--output-dir", "flow"});
  EXPECT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("merged 8 adapted tensors of flow into flow/merged"));
  EXPECT_EQ(merged.err, "");
  EXPECT_TRUE(exists(path("flow/merged/model.safetensors")) &&
              exists(path("flow/merged/tokenizer.json")));
  // The merged model alone says what base and adapter said.
  const Outcome alone =
      run({"inference", "lora.yml", "--base-model", "flow/merged", "--adapter", "", "--output-dir",
           "nothing-here", "--max-new-tokens", "8", "--temperature", "0", "--prompt", "Say 3."});
  EXPECT_EQ(alone.out, run(with({"--temperature", "0", "--prompt", "Say 3."})).out) << alone.err;
}

TEST_F(training, an_earlier_run_is_not_overwritten_unasked) {
  folder_->write("twice.yml", tiny_lora_yaml("max_steps: 1\n"));
  const std::vector<std::string> train = {"train", "twice.yml", "--output-dir", "twice"};
  ASSERT_EQ(run(train).exit_code, 0);
  const Outcome second = run(train);
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_THAT(second.err, HasSubstr("twice"));
  auto again = train;
  again.emplace_back("--overwrite-output-dir");
  EXPECT_EQ(run(again).exit_code, 0);
}

TEST_F(training, explain_says_why_each_implementation_is_not_taken) {
  folder_->write("explain.yml", tiny_lora_yaml());
  const Outcome outcome = run({"explain", "explain.yml"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\nlora_r: 4\n"));
  EXPECT_THAT(outcome.out, HasSubstr("qwen3_moe in base"));
  EXPECT_THAT(outcome.out, HasSubstr("layers.{0-1}.mlp.experts.base_layer.lora_A"));
  EXPECT_THAT(outcome.out, HasSubstr("experts_implementation: auto runs scattermoe"));
  EXPECT_THAT(outcome.out, HasSubstr("> 16: it is for decoding"));
  EXPECT_THAT(outcome.out, HasSubstr("decoding, one token a call, runs batched_mm"));
  for (const char* name : {"eager", "grouped_mm", "scattermoe", "sonicmoe", "batched_mm"}) {
    EXPECT_THAT(outcome.out, HasSubstr(std::string("\n  ") + name + " "));
  }
  EXPECT_THAT(outcome.out, HasSubstr("peak"));
}

TEST_F(training, sonicmoe_on_a_machine_without_a_gpu_is_refused_at_the_start) {
  folder_->write("sonic.yml", tiny_lora_yaml("use_sonicmoe: true\n"));
  for (const char* command : {"train", "explain"}) {
    const Outcome outcome = run({command, "sonic.yml", "--output-dir", "sonic"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("sonicmoe"));
  }
}

TEST_F(training, a_target_that_matches_nothing_is_refused_before_training) {
  folder_->write("target.yml", tiny_lora_yaml());
  const Outcome outcome =
      run({"train", "target.yml", "--output-dir", "t", "--lora-target-parameters",
           "[experts.gate_up_proj, experts.dwn_proj]"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("experts.dwn_proj"));
}

TEST_F(training, one_sided_adapters_stay_one_sided) {
  folder_->write("side.yml", tiny_lora_yaml("max_steps: 1\n"));
  const Outcome outcome = run({"train", "side.yml", "--output-dir", "side", "--lora-target-modules",
                               "", "--lora-target-parameters", "experts.down_proj"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("layers.{0-1}.mlp.experts.lora_A"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("base_layer")));
}

TEST_F(training, ctrl_c_saves_and_ends_with_130) {
  folder_->write("stop.yml", tiny_lora_yaml("max_steps: 100000\nsave_strategy: no\n"));
  bool sent = false;
  const auto interrupt = [&](pid_t child, const std::string& so_far) {
    if (!sent && so_far.find("step 3/") != std::string::npos) {
      kill(child, SIGINT);
      sent = true;
    }
  };
  const Outcome outcome = run({"train", "stop.yml", "--output-dir", "stop"}, {.watch = interrupt});
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("stopping and saving"));
  EXPECT_THAT(
      outcome.out,
      HasSubstr(
          "go on with:    moesmith train stop.yml --output_dir=stop --resume-from-checkpoint"));
  EXPECT_TRUE(exists(path("stop/adapter_model.safetensors")));
}

TEST_F(training, a_second_ctrl_c_ends_at_once) {
  folder_->write("kill.yml", tiny_lora_yaml("max_steps: 100000\nsave_strategy: no\n"));
  int sent = 0;
  const auto interrupt = [&](pid_t child, const std::string& so_far) {
    const bool started = so_far.find("step 3/") != std::string::npos;
    if ((sent == 0 && started) ||
        (sent == 1 && so_far.find("stopping and saving") != std::string::npos)) {
      kill(child, SIGINT);
      ++sent;
    }
  };
  const Outcome outcome = run({"train", "kill.yml", "--output-dir", "kill"}, {.watch = interrupt});
  // 130 either way: by the signal, or because the save was quicker than the second one.
  EXPECT_EQ(outcome.exit_code, 130);
}

TEST_F(training, a_terminal_gets_a_bar_and_a_pipe_plain_lines) {
  folder_->write("bar.yml", tiny_lora_yaml("max_steps: 5\nsave_strategy: no\n"));
  const Outcome bar = run({"train", "bar.yml", "--output-dir", "bar"},
                          {.environment = {"TERM=xterm", "NO_COLOR"}, .terminal = true});
  EXPECT_EQ(bar.exit_code, 0) << bar.out;
  EXPECT_THAT(bar.out, HasSubstr("\r\x1b[Kstep 5/5 [####"));
  EXPECT_THAT(bar.out, HasSubstr("\x1b[1m"));
  EXPECT_THAT(bar.out, HasSubstr("ETA 0:00"));
  const Outcome dumb = run({"train", "bar.yml", "--output-dir", "dumb"},
                           {.environment = {"TERM=dumb"}, .terminal = true});
  EXPECT_THAT(dumb.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(dumb.out, HasSubstr("step 5/5  epoch"));
}

}  // namespace
}  // namespace moesmith::cli
