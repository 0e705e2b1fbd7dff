// SPDX-License-Identifier: Apache-2.0
// SIGKILL at twenty random moments: every resume goes on bitwise.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include "tiny_run.h"
#include "train/run_folder.h"

namespace moesmith::train {
namespace {

TrainJob long_job(const TinyRun& tiny, const std::string& output) {
  TrainJob job = tiny.expert_lora_job(output);
  job.train.max_steps = 120;
  job.train.logging_steps = 2;
  job.train.save_steps = 3;
  job.train.eval_steps = 10;
  job.train.auto_resume_from_checkpoints = true;
  return job;
}

// Runs the job in a process of its own; 0 lets it end by itself. True when it ended well.
bool run_process(const TrainJob& job, std::chrono::milliseconds kill_after) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 1;
    try {
      code = run(job, 2).outcome == TrainOutcome::kFinished ? 0 : 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    ::_exit(code);
  }
  if (kill_after.count() > 0) {
    std::this_thread::sleep_for(kill_after);
    ::kill(child, SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(kill, at_twenty_random_moments_changes_nothing) {
  TinyRun tiny;
  tiny.make_base();
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(run_process(long_job(tiny, "whole"), {}));
  const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  SCOPED_TRACE("seed " + std::to_string(seed) + ", run of " + std::to_string(whole.count()) +
               " ms");
  // Short enough that most of the twenty fall within the run, long enough that it moves on.
  std::uniform_int_distribution<int> delay(5, static_cast<int>(whole.count()) / 4 + 5);
  int killed = 0;
  for (int i = 0; i < 20; ++i) {
    killed +=
        run_process(long_job(tiny, "killed"), std::chrono::milliseconds(delay(random))) ? 0 : 1;
    for (const CheckpointFolder& checkpoint : list_checkpoints(tiny.output("killed"))) {
      ASSERT_NO_THROW(read_checkpoint(checkpoint.path)) << checkpoint.path;
    }
  }
  EXPECT_GE(killed, 5) << "most runs ended before they were killed";
  ASSERT_TRUE(run_process(long_job(tiny, "killed"), {}));
  EXPECT_EQ(timeless_log(tiny.output("whole")), timeless_log(tiny.output("killed")));
  EXPECT_EQ(weight_bytes(tiny.output("whole")), weight_bytes(tiny.output("killed")));
  EXPECT_EQ(weight_bytes(tiny.output("whole/checkpoint-120")),
            weight_bytes(tiny.output("killed/checkpoint-120")));
}

}  // namespace
}  // namespace moesmith::train
