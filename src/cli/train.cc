// SPDX-License-Identifier: Apache-2.0
// moesmith train: one run, drawn for a person.
#include <fstream>
#include <sstream>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "core/text.h"
#include "train/trainer.h"

namespace moesmith::cli {
namespace {

std::string text_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

// The file and the flags that the next command needs to mean the same run, quoted for a shell.
std::string same_run(const Arguments& arguments) {
  std::string text = arguments.config_file;
  for (const config::Override& over : arguments.overrides) {
    if (over.key == "resume_from_checkpoint" || over.key == "overwrite_output_dir") {
      continue;
    }
    std::string quoted;
    for (const char c : over.value) {
      quoted += c == '\'' ? "'\\''" : std::string(1, c);
    }
    const bool plain = over.value.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                           "0123456789_-./,:=+@%") == std::string::npos;
    text += str(" --", over.key, "=", plain ? over.value : str("'", quoted, "'"));
  }
  return text;
}

int run(const Arguments& arguments) {
  const config::Config config = read_config(arguments, config::Purpose::kTrain);
  train::TrainJob job;
  job.train = config.train;
  job.model = config.model;
  job.lora = config.lora;
  job.generation = config.generation;
  job.overwrite_output_dir = config.runtime.overwrite_output_dir;
  job.sample_prompts = config.runtime.sample_prompts;
  job.config_text = text_of(arguments.config_file);

  place_memory(config.runtime);
  ThreadPool pool(static_cast<int>(config.runtime.threads));
  TrainProgress progress;
  const InterruptGuard guard(
      "\nmoesmith: stopping and saving; press Ctrl-C again to end at once\n");
  const train::TrainResult result = train::train(job, progress, pool, guard.stop());
  progress.finish(result, same_run(arguments), config.lora.enabled);
  return result.outcome == train::TrainOutcome::kInterrupted ? kInterrupted : kDone;
}

}  // namespace

Command train_command() {
  return {
      "train",
      "Trains an adapter (adapter: lora) or all weights.",
      "Ctrl-C saves and leaves with exit code 130; a second one ends at once. A run goes on with\n"
      "--resume-from-checkpoint true, or always with auto_resume_from_checkpoints: true.",
      true,
      true,
      {},
      run};
}

}  // namespace moesmith::cli
