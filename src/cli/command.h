// SPDX-License-Identifier: Apache-2.0
// The commands, as a table.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.h"
#include "config/config.h"

namespace moesmith::cli {

// Of the process.
enum ExitCode { kDone = 0, kFailed = 1, kWrongInput = 2, kInterrupted = 130 };

struct Command {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view more;     // what --help says below it
  bool needs_config;
  bool takes_keys;  // the configuration's keys are flags of it
  std::vector<Option> options;
  int (*run)(const Arguments&);
  std::string_view subject = {};  // the one word that it takes in place of a configuration
};

const std::vector<Command>& commands();

// One file per command.
Command train_command();
Command inference_command();
Command merge_lora_command();
Command validate_command();
Command explain_command();
Command doctor_command();
Command bench_command();

// The configuration with the flags over it; its notices go to stderr, one line each.
config::Config read_config(const Arguments& arguments, config::Purpose purpose);

// Makes memory come from the nodes that `numa` says; before threads start and anything large is
// made.
void place_memory(const config::RuntimeOptions& runtime);

}  // namespace moesmith::cli
