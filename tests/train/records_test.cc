// SPDX-License-Identifier: Apache-2.0
// trainer_state.json, trainer_log.jsonl and the plot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "io/json.h"
#include "moesmith/error.h"
#include "temp_folder.h"
#include "train/loss_plot.h"
#include "train/train_log.h"
#include "train/trainer_state.h"

namespace moesmith::train {
namespace {

using testing::HasSubstr;
using testing::Not;

TrainerState sample_state() {
  TrainerState s;
  s.step = 12;
  s.epoch = 1.0 / 3.0;
  s.total_steps = 36;
  s.num_epochs = 1.0;
  s.logging_steps = 5;
  s.micro_batch_size = 2;
  s.log_history = {{5, 0.1, false, 2.5, 0.01, 1e-4, 0.7}, {10, 0.2, true, 2.25}};
  s.micro_batches = 48;
  s.total_tokens = 12345678901;
  s.trained_tokens = 99;
  s.elapsed_seconds = 1.5;
  s.log_bytes = 777;
  s.running_loss = 0.1 + 0.2;  // not 0.3: every bit must come back
  s.running_aux = 1e-300;
  s.running_steps = 2;
  s.settings = {{"seed", "42"}, {"learning_rate", "0.0002"}};
  s.isa = "avx2";
  s.num_threads = 2;
  s.probe_loss = 5.4321;
  s.files = {{"a.safetensors", {10, -77}}};
  return s;
}

TEST(trainer_state, comes_back_bit_for_bit) {
  const TrainerState s = sample_state();
  const std::string text = to_json(s);
  const TrainerState back = parse_trainer_state(text, "state");
  EXPECT_EQ(to_json(back), text);
  EXPECT_EQ(back.running_loss, s.running_loss);
  EXPECT_EQ(back.running_aux, s.running_aux);
  EXPECT_EQ(back.total_tokens, s.total_tokens);
  EXPECT_EQ(back.settings, s.settings);
  EXPECT_EQ(back.files.at("a.safetensors").hash, -77);
  ASSERT_EQ(back.log_history.size(), 2u);
  EXPECT_TRUE(back.log_history[1].evaluation);
  EXPECT_EQ(back.log_history[0].grad_norm, 0.7);
}

TEST(trainer_state, has_the_keys_that_readers_of_transformers_rely_on) {
  const io::Json json = io::Json::parse(to_json(sample_state()), "state");
  for (const char* key :
       {"best_metric", "best_model_checkpoint", "epoch", "global_step", "max_steps",
        "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
        "total_flos", "log_history", "stateful_callbacks"}) {
    EXPECT_NE(json.find(key), nullptr) << key;
  }
}

TEST(trainer_state, refuses_what_it_did_not_write) {
  const std::string text = to_json(sample_state());
  EXPECT_THROW(parse_trainer_state(text.substr(0, text.size() / 2), "state"), Error);
  EXPECT_THROW(parse_trainer_state("{}", "state"), Error);
  EXPECT_THROW(parse_trainer_state("[]", "state"), Error);
  std::string other = text;
  other.replace(other.find("\"format\": 1"), 11, "\"format\": 9");
  EXPECT_THROW(parse_trainer_state(other, "state"), Error);
  other = text;
  other.replace(other.find("\"global_step\": 12"), 17, "\"global_step\": {}");
  EXPECT_THROW(parse_trainer_state(other, "state"), Error);
}

TEST(content_hash, sees_every_bit_and_the_length) {
  std::string data(100, 'x');
  const std::int64_t hash = content_hash(data.data(), data.size());
  for (std::size_t i = 0; i < data.size(); ++i) {
    std::string other = data;
    other[i] = static_cast<char>(other[i] ^ 4);
    EXPECT_NE(content_hash(other.data(), other.size()), hash) << i;
  }
  const std::string zeros(64, '\0');
  EXPECT_NE(content_hash(zeros.data(), 33), content_hash(zeros.data(), 34));
  TempFolder folder;
  const std::string large(3'000'000, 'x');  // more than one chunk
  spill(folder / "file", large);
  const std::int64_t whole = file_hash(folder / "file");
  for (const std::size_t at : {std::size_t{0}, large.size() / 2, large.size() - 1}) {
    std::string other = large;
    other[at] = 'y';
    spill(folder / "file", other);
    EXPECT_NE(file_hash(folder / "file"), whole) << at;
  }
  spill(folder / "file", large);
  EXPECT_EQ(file_hash(folder / "file"), whole);
  EXPECT_THROW(file_hash(folder / "none"), Error);
}

StepReport sample_step(std::int64_t step) {
  StepReport r;
  r.step = step;
  r.total_steps = 8;
  r.loss = 0.1 * static_cast<double>(step);
  r.lr = 2e-4;
  r.elapsed_seconds = 90061;
  r.logged = true;
  return r;
}

TEST(train_log, writes_one_object_a_line) {
  TempFolder folder;
  {
    TrainLog log(folder / "log", 0);
    log.write(sample_step(3));
    EvalReport eval;
    eval.step = 3;
    eval.loss = 1.5;
    eval.perplexity = std::numeric_limits<double>::infinity();
    log.write(eval, sample_step(3));
    EXPECT_EQ(log.bytes(), static_cast<std::int64_t>(slurp(folder / "log").size()));
  }
  const std::string text = slurp(folder / "log");
  const std::size_t cut = text.find('\n');
  const io::Json train = io::Json::parse(text.substr(0, cut), "line 1");
  const io::Json eval = io::Json::parse(text.substr(cut + 1, text.size() - cut - 2), "line 2");
  EXPECT_EQ(train.find("loss")->as_number(), 0.1 * 3.0);
  EXPECT_EQ(train.find("current_steps")->as_integer(), 3);
  EXPECT_EQ(train.find("percentage")->as_number(), 37.5);
  EXPECT_EQ(train.find("elapsed_time")->as_string(), "1 day, 1:01:01");
  EXPECT_EQ(eval.find("eval_loss")->as_number(), 1.5);
  EXPECT_TRUE(eval.find("eval_perplexity")->is_null());
}

TEST(train_log, is_cut_back_to_its_checkpoint) {
  TempFolder folder;
  std::int64_t kept = 0;
  {
    TrainLog log(folder / "log", 0);
    log.write(sample_step(1));
    log.sync();
    kept = log.bytes();
    log.write(sample_step(2));
  }
  spill(folder / "log", slurp(folder / "log") + "{\"current_ste");  // killed while writing
  {
    TrainLog log(folder / "log", kept);
    EXPECT_FALSE(log.shortened());
    log.write(sample_step(2));
  }
  const std::string text = slurp(folder / "log");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_TRUE(TrainLog(folder / "log", 100000).shortened());
  EXPECT_THROW(TrainLog(folder / "none/log", 0), Error);
}

TEST(loss_plot, draws_what_was_logged) {
  std::vector<LogEntry> history;
  for (std::int64_t i = 1; i <= 50; ++i) {
    history.push_back({i, 0.0, false, 3.0 / static_cast<double>(i)});
    if (i % 10 == 0) history.push_back({i, 0.0, true, 1.0});
  }
  history.push_back({51, 0.0, false, std::numeric_limits<double>::quiet_NaN()});
  const std::string svg = loss_plot_svg(history, "a <b> & c");
  EXPECT_THAT(svg, HasSubstr("a &lt;b&gt; &amp; c"));
  EXPECT_THAT(svg, HasSubstr("loss per token"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  std::size_t dots = 0;
  for (std::size_t at = 0; (at = svg.find("<circle", at)) != std::string::npos; ++at) ++dots;
  EXPECT_EQ(dots, 5u);
}

TEST(loss_plot, survives_histories_without_a_curve) {
  EXPECT_THAT(loss_plot_svg({}, ""), HasSubstr("no loss was logged"));
  const std::string one = loss_plot_svg({{1, 0.0, false, 2.0}}, "");
  EXPECT_THAT(one, Not(HasSubstr("nan")));
  EXPECT_THAT(one, Not(HasSubstr("inf")));
  EXPECT_EQ(smoothed({2.0, 2.0, 2.0}), (std::vector<double>{2.0, 2.0, 2.0}));
}

}  // namespace
}  // namespace moesmith::train
