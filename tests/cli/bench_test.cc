// SPDX-License-Identifier: Apache-2.0
// moesmith bench experts: every implementation is there, timed or with its reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "cuda/device.h"
#include "io/json.h"
#include "moesmith/experts.h"
#include "process.h"

namespace moesmith::cli {
namespace {

using testing::HasSubstr;

std::set<std::string> implementations() {
  experts::ExpertsRequest r;
  r.num_experts = 8, r.top_k = 2, r.hidden = 64, r.inter = 32, r.max_tokens = 3;
  std::set<std::string> names;
  for (const experts::Verdict& verdict : experts::explain_experts(r)) names.insert(verdict.name);
  return names;
}

TEST(bench, writes_a_line_for_each_implementation_and_case) {
  const Outcome outcome = run_command({"bench", "experts", "--shape", "tiny", "--tokens", "1,3",
                                       "--mode", "forward,lora,full", "--routing", "uniform,skewed",
                                       "--threads", "1", "--seconds", "0", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  std::map<std::string, std::set<std::string>> seen;
  std::map<std::string, int> picked;
  std::istringstream lines(outcome.out);
  for (std::string text; std::getline(lines, text);) {
    const io::Json parsed = io::Json::parse(text, "line");
    const io::JsonRef line(parsed, "line");
    const std::string name = line.at("implementation").as_string();
    const std::string key = line.at("mode").as_string() + line.at("routing").as_string() +
                            std::to_string(line.at("tokens").as_integer());
    seen[key].insert(name);
    picked[key] += line.at("auto_takes_it").as_bool() ? 1 : 0;
    if (line.has("refusal")) {
      EXPECT_FALSE(line.at("refusal").as_string().empty()) << name;
      EXPECT_FALSE(line.has("ms")) << name;
      EXPECT_FALSE(line.at("auto_takes_it").as_bool()) << name;
      continue;
    }
    EXPECT_GT(line.get_number("ms_p10", 0), 0) << name;
    EXPECT_LE(line.get_number("ms_p10", 0), line.get_number("ms", 0)) << name;
    EXPECT_LE(line.get_number("ms", 0), line.get_number("ms_p90", 0)) << name;
    EXPECT_GT(line.get_number("tflops", 0), 0) << name;
    EXPECT_GT(line.get_number("dense_ms", 0), 0) << name;
    EXPECT_GT(line.get_number("share_of_dense", 0), 0) << name;
    EXPECT_GE(line.get_integer("repeats", 0), 3) << name;
    EXPECT_GE(line.get_integer("peak_bytes", 0), line.get_integer("saved_bytes", 1)) << name;
    EXPECT_FALSE(line.at("commit").as_string().empty()) << name;
    const bool saves = line.at("mode").as_string() != "forward";
    EXPECT_EQ(line.get_integer("saved_bytes", -1) > 0, saves) << name;
  }
  EXPECT_EQ(seen.size(), 12u);
  for (const auto& [key, names] : seen) {
    EXPECT_EQ(names, implementations()) << key;
    EXPECT_EQ(picked[key], 1) << key;
  }
}

TEST(bench, prints_a_table_with_the_reasons) {
  const Outcome outcome = run_command(
      {"bench", "experts", "--shape", "tiny", "--tokens", "2", "--threads", "1", "--seconds", "0"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              HasSubstr("tiny (E 8, K 2, H 64, I 32), 2 tokens, lora r = 16, uniform routing"));
  for (const std::string& name : implementations()) EXPECT_THAT(outcome.out, HasSubstr(name));
  EXPECT_THAT(outcome.out, HasSubstr(" *"));
  EXPECT_THAT(outcome.out, HasSubstr("refuses: "));  // sonicmoe: there is no such CPU
}

TEST(bench, times_one_implementation_alone) {
  const Outcome outcome =
      run_command({"bench", "experts", "--shape", "tiny", "--tokens", "2", "--implementation",
                   "eager", "--threads", "1", "--seconds", "0", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1);
  EXPECT_THAT(outcome.out, HasSubstr("\"implementation\": \"eager\""));
}

TEST(bench, times_every_implementation_of_a_gpu_or_says_that_there_is_none) {
  const Outcome outcome =
      run_command({"bench", "experts", "--shape", "tiny", "--tokens", "64", "--device", "cuda",
                   "--mode", "forward,lora,full", "--seconds", "0", "--json"});
  const cuda::DeviceList list = cuda::list_devices();
  if (list.devices.empty()) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("--device: got \"cuda\", expected cpu: " + list.why_empty));
    return;
  }
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  int timed = 0;
  std::istringstream lines(outcome.out);
  for (std::string text; std::getline(lines, text);) {
    const io::Json parsed = io::Json::parse(text, "line");
    const io::JsonRef line(parsed, "line");
    EXPECT_EQ(line.at("device").as_string(), list.devices[0].name);
    if (line.has("refusal")) continue;
    ++timed;
    const std::string name = line.at("implementation").as_string();
    EXPECT_GT(line.get_number("ms", 0), 0) << name;
    EXPECT_EQ(line.at("graph").as_bool(), name != "eager") << name;
    EXPECT_TRUE(line.has("share_of_dense") || line.has("no_dense")) << name;
  }
  EXPECT_GE(timed, 3);
}

TEST(bench, names_what_is_wrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
      {{}, "expected moesmith bench experts"},
      {{"layers"}, "got layers, expected moesmith bench experts"},
      {{"experts", "--tokens", "0"}, "--tokens: got \"0\", expected a number from 1"},
      {{"experts", "--tokens", "2.5"}, "--tokens: got \"2.5\", expected a whole number"},
      {{"experts", "--mode", "x"}, "--mode: got \"x\", expected forward, lora, full"},
      {{"experts", "--shape", "x"}, "--shape: got \"x\", expected tiny, "},
      {{"experts", "--device", "gpu"}, "--device: got \"gpu\", expected cpu, cuda or cuda:N"},
      {{"experts", "--device", "cuda:x"}, "expected cpu, cuda or cuda:N"},
      {{"experts", "--device", "cuda:99"}, "--device: got \"cuda:99\", expected "},
      {{"experts", "--lora-r", "8"}, "--lora-r is a key of a configuration"},
      {{"experts", "--shape", "tiny", "--implementation", "x"}, "x"},
      {{"experts", "--shape", "tiny", "--implementation", "sonicmoe"}, "sonicmoe"}};
  for (const auto& [words, message] : wrong) {
    std::vector<std::string> all = {"bench"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = run_command(all);
    EXPECT_EQ(outcome.exit_code, 2) << message;
    EXPECT_EQ(outcome.out, "") << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
}

TEST(bench, helps) {
  const Outcome help = run_command({"bench", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Usage: moesmith bench experts [options]"));
  EXPECT_THAT(help.out, HasSubstr("--routing WAY,.."));
  EXPECT_THAT(run_command({"--help"}).out, HasSubstr("\n  bench "));
}

}  // namespace
}  // namespace moesmith::cli
