// SPDX-License-Identifier: Apache-2.0
// golden_check FOLDER... [--experts-implementation NAME] [--threads N]: compares with golden data
// and prints the worst tensor of each part. Exit 0: all within bounds; 1: one is over; 2: bad
// input.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "model/golden/golden.h"
#include "moesmith/error.h"

namespace {

constexpr const char* kUsage =
    "usage: golden_check FOLDER... [--experts-implementation NAME] [--threads N]\n";

bool check(const std::string& folder,
           const std::string& implementation,
           moesmith::ThreadPool& pool) {
  bool ok = true;
  std::printf("%s (%s)\n", folder.c_str(), implementation.c_str());
  for (const auto& part : moesmith::model::check_golden(folder, implementation, pool)) {
    std::printf("  %-4s %-32s %.2e of %.0e  %3lld tensors, worst %s", part.ok() ? "ok" : "OVER",
                part.part.c_str(), part.error, part.bound, static_cast<long long>(part.num_tensors),
                part.tensor.c_str());
    if (part.left_out > 0) {
      std::printf(", %lld elements left out", static_cast<long long>(part.left_out));
    }
    std::printf("\n");
    ok = ok && part.ok();
  }
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> folders;
  std::string implementation = "eager";
  int threads = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool has_value = i + 1 < argc;
    if (arg == "--experts-implementation" && has_value) {
      implementation = argv[++i];
    } else if (arg == "--threads" && has_value) {
      threads = std::atoi(argv[++i]);
    } else if (arg == "--help") {
      std::fputs(kUsage, stdout);
      return 0;
    } else if (arg.starts_with("--")) {
      std::fputs(kUsage, stderr);
      return 2;
    } else {
      folders.push_back(arg);
    }
  }
  if (folders.empty()) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  moesmith::ThreadPool pool(threads);
  bool ok = true;
  for (const std::string& folder : folders) {
    try {
      ok = check(folder, implementation, pool) && ok;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "golden_check: %s: %s\n", folder.c_str(), error.what());
      return 2;
    }
  }
  return ok ? 0 : 1;
}
