// SPDX-License-Identifier: Apache-2.0
// A folder of its own for one test, removed at its end; and the texts of errors.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "moesmith/error.h"

namespace moesmith::io {

class TempDir {
 public:
  TempDir() : path_((std::filesystem::temp_directory_path() / "moesmith-io-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Caught {
  bool thrown = false;
  ErrorCode code = ErrorCode::kInternal;
  std::string text;
};

template <class Run>
Caught catch_error(Run run) {
  try {
    run();
  } catch (const Error& error) {
    return {true, error.code(), error.what()};
  }
  return {};
}

}  // namespace moesmith::io

// The statement throws Error with this code, and its text holds each of the parts.
#define EXPECT_ERROR(statement, expected_code, part)                     \
  do {                                                                   \
    const auto caught = ::moesmith::io::catch_error([&] { statement; }); \
    EXPECT_TRUE(caught.thrown) << #statement;                            \
    EXPECT_EQ(caught.code, expected_code) << caught.text;                \
    EXPECT_NE(caught.text.find(part), std::string::npos)                 \
        << "got: " << caught.text << "\nwithout: " << (part);            \
  } while (false)
