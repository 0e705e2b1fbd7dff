// SPDX-License-Identifier: Apache-2.0
// The command from outside: help, exit codes, messages, what it prints where.
#include "process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace moesmith::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kGood =
    "base_model: m\nlearning_rate: 1e-4\ndatasets: [{path: d.jsonl, type: alpaca}]\n";
const std::vector<std::string> kCommands = {"train",    "inference", "merge-lora",
                                            "validate", "explain",   "doctor"};

TEST(process, says_its_version) {
  const Outcome outcome = run_command({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, testing::MatchesRegex("moesmith [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(process, helps_with_every_command) {
  const Outcome usage = run_command({"--help"});
  EXPECT_EQ(usage.exit_code, 0);
  for (const std::string& command : kCommands) {
    EXPECT_THAT(usage.out, HasSubstr("\n  " + command + " "));
    const Outcome help = run_command({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("Usage: moesmith " + command));
    EXPECT_THAT(help.out, HasSubstr("--lora-target-parameters"));
    EXPECT_EQ(help.err, "");
  }
}

TEST(process, ends_with_2_and_one_sentence_when_the_input_is_wrong) {
  TemporaryFolder folder;
  const std::string good = folder.write("good.yml", kGood);
  const std::string bad = folder.write("bad.yml", kGood + "lora_r: abc\n");
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"trainn"},
      {"train"},
      {"train", "/no/such.yml"},
      {"validate", bad},
      {"validate", good, "--lora-rr", "1"},
      {"validate", good, "--lora-r"},
      {"validate", good, good},
      {"explain", good},
      {"train", good},
      {"inference", good, "--prompt", "x"},
      {"merge-lora", good},
      {"inference", good, "--chat", "--prompt", "x"},
      {"inference", good, "--format", "x", "--prompt", "y"},
      {"doctor", bad}};
  for (const auto& arguments : wrong) {
    const Outcome outcome = run_command(arguments, {.input = "", .folder = folder.path()});
    const std::string shown = arguments.empty() ? "" : testing::PrintToString(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << shown << outcome.err;
    EXPECT_EQ(outcome.out, "") << shown;
    EXPECT_THAT(outcome.err, StartsWith("moesmith: error: ")) << shown;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << shown << outcome.err;
  }
  EXPECT_THAT(run_command({"trainn"}).err, HasSubstr("did you mean train?"));
}

TEST(process, names_file_line_and_column) {
  TemporaryFolder folder;
  folder.write("run.yml", kGood + "lora_target_module: [q_proj]\n");
  EXPECT_EQ(run_command({"validate", "run.yml"}, {.folder = folder.path()}).err,
            "moesmith: error: run.yml:4:1: unknown key lora_target_module; did you mean "
            "lora_target_modules?\n");
}

TEST(process, validate_prints_a_file_that_is_valid_itself) {
  TemporaryFolder folder;
  const std::string file = folder.write("run.yml", kGood);
  const Outcome plain = run_command({"validate", file});
  EXPECT_EQ(plain.exit_code, 0);
  EXPECT_EQ(plain.out, file + ": valid, 3 keys have values\n");
  EXPECT_EQ(plain.err, "");
  const Outcome printed =
      run_command({"validate", file, "--print", "--lora-r", "7", "--sample-packing"});
  EXPECT_THAT(printed.out, HasSubstr("\nlora_r: 7\n"));
  EXPECT_THAT(printed.out, HasSubstr("\nsample_packing: true\n"));
  const std::string again = folder.write("again.yml", printed.out);
  EXPECT_EQ(run_command({"validate", again, "--print"}).out, printed.out);
}

TEST(process, validate_prints_the_reference_and_the_schema) {
  EXPECT_EQ(run_command({"validate", "--markdown"}).out,
            read_text(MOESMITH_SOURCE_DIR "/docs/configuration.md"));
  EXPECT_THAT(run_command({"validate", "--json-schema"}).out, StartsWith("{\n  \"$schema\""));
}

TEST(process, keys_without_effect_go_to_stderr) {
  TemporaryFolder folder;
  const std::string file = folder.write("run.yml", kGood + "wandb_project: p\nwandb_entity:\n");
  const Outcome outcome = run_command({"validate", file});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err,
            "moesmith: no effect here: wandb_project (metrics go to trainer_log.jsonl and to no "
            "service)\n");
}

TEST(process, doctor_describes_the_machine) {
  const Outcome outcome = run_command({"doctor"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* row : {"moesmith ", "build ", "system ", "cpu ", "isa ", "threads ", "numa ",
                          "memory ", "disk "}) {
    EXPECT_THAT(outcome.out, HasSubstr(row));
  }
  EXPECT_THAT(run_command({"doctor"}, {.environment = {"MOESMITH_ISA=portable"}}).out,
              HasSubstr("\nisa         portable"));
}

TEST(process, colours_only_a_terminal_and_not_with_no_color) {
  TemporaryFolder folder;
  const std::string file = folder.write("run.yml", kGood);
  EXPECT_THAT(run_command({"doctor"}).out, Not(HasSubstr("\x1b")));
  const std::vector<std::string> arguments = {"validate", file};
  const Outcome outcome =
      run_command(arguments, {.environment = {"TERM=xterm", "NO_COLOR=1"}, .terminal = true});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace moesmith::cli
