// SPDX-License-Identifier: Apache-2.0
// Entry point of the command.
#include "cli/app.h"

int main(int argc, char** argv) {
  return moesmith::cli::run_app(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
