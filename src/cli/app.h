// SPDX-License-Identifier: Apache-2.0
// The program without its entry point.
#pragma once

#include <string>
#include <vector>

namespace moesmith::cli {

// Runs one command and returns the process's exit code: 0 done, 1 failed, 2 the user's input is
// wrong, 130 interrupted. Errors are one sentence on stderr.
int run_app(const std::vector<std::string>& words);

}  // namespace moesmith::cli
