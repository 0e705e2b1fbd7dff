// SPDX-License-Identifier: Apache-2.0
// The command as a process of its own: what it prints, its exit code, signals, a terminal.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace moesmith::cli {

struct Outcome {
  int exit_code = -1;  // 128 + signal when one ended it
  std::string out;     // of a terminal: everything
  std::string err;
};

struct ProcessOptions {
  std::string input = {};   // stdin
  std::string folder = {};  // where it runs; "" = here
  std::vector<std::string> environment =
      {};                 // "NAME=value" added to, or "NAME" taken from, the test's
  bool terminal = false;  // the three streams are one pseudo-terminal
  // Sees all output so far after each piece; may send signals.
  std::function<void(pid_t, const std::string& so_far)> watch = {};
};

// Runs `moesmith arguments...`. Ends the process, and the test's patience, after two minutes.
Outcome run_command(const std::vector<std::string>& arguments, const ProcessOptions& options = {});

// A folder of its own that is gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  // Writes path()/name, making folders, and returns that path.
  std::string write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);  // "" when it is not there
bool exists(const std::string& path);

}  // namespace moesmith::cli
