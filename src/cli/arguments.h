// SPDX-License-Identifier: Apache-2.0
// The command line of one command: CONFIG.yml, options of the command's own, and the schema's keys
// as flags.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace moesmith::cli {

// An option of a command that is no key of the configuration.
struct Option {
  std::string_view name;   // without dashes
  std::string_view value;  // what stands for the value in the help; "" for an option without one
  std::string_view help;
};

struct Arguments {
  std::string config_file;  // "" when none was given
  std::vector<config::Override> overrides;
  std::map<std::string, std::string> options;  // by name; "" for those without a value
  bool help = false;

  bool has(const std::string& option) const { return options.contains(option); }
};

// `words` without the program's and the command's name. `--key value`, `--key=value`, dashes or
// underscores in keys, `--flag` and `--no-flag` for booleans. Throws Error(kInvalidInput) for an
// unknown flag (with the nearest one), a missing value and a second file.
Arguments parse_arguments(const std::vector<std::string>& words,
                          const std::vector<Option>& options);

}  // namespace moesmith::cli
