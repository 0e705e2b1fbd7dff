// SPDX-License-Identifier: Apache-2.0
#include "jinja_oracle.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/text.h"

namespace moesmith::text {
namespace {

namespace fs = std::filesystem;

std::string python() {
  for (const char* candidate : {"/usr/bin/python3", "python3"}) {
    const std::string probe = str(candidate, " -c 'import jinja2' 2>/dev/null");
    if (std::system(probe.c_str()) == 0) return candidate;
  }
  return "";
}

}  // namespace

std::vector<io::Json> ask_oracle(const std::vector<OracleRequest>& requests) {
  const std::string interpreter = python();
  if (interpreter.empty()) return {};
  const fs::path folder = fs::path(testing::TempDir()) / str("moesmith_oracle_", ::getpid());
  fs::create_directories(folder);
  {
    std::ofstream file(folder / "requests.jsonl", std::ios::binary);
    for (const OracleRequest& request : requests) {
      io::Json line = io::Json::object();
      line.set("template", request.source);
      line.set("vars", request.variables);
      file << line.dump() << '\n';
    }
  }
  const std::string command =
      str(interpreter, " '", MOESMITH_TEST_DATA, "/jinja/oracle.py' < '",
          (folder / "requests.jsonl").string(), "' > '", (folder / "answers.jsonl").string(), "'");
  std::vector<io::Json> answers;
  if (std::system(command.c_str()) == 0) {
    std::ifstream file(folder / "answers.jsonl", std::ios::binary);
    for (std::string line; std::getline(file, line);) {
      answers.push_back(io::Json::parse(line, "oracle"));
    }
  }
  fs::remove_all(folder);
  return answers;
}

}  // namespace moesmith::text
