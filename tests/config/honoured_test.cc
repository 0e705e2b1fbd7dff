// SPDX-License-Identifier: Apache-2.0
// An option that nothing reads would be accepted and ignored, which no key may be.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

namespace moesmith::config {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

// Sources of every module but config, whose rules alone read batch_size.
std::string sources_without(const fs::path& header) {
  std::string all;
  for (const auto& entry : fs::recursive_directory_iterator(MOESMITH_SOURCE_DIR "/src")) {
    const fs::path& path = entry.path();
    const bool is_source = path.extension() == ".cc" || path.extension() == ".h";
    if (is_source && path != header && path.string().find("/src/config/") == std::string::npos) {
      all += text_of(path);
    }
  }
  return all;
}

TEST(honoured, every_option_is_read_by_the_code_it_is_for) {
  const std::regex member("^  [A-Za-z][A-Za-z_0-9:<>, ]+[ >]([a-z_]+)( = .*|\\{.*\\})?;");
  for (const char* name : {"train", "model"}) {
    const fs::path header = fs::path(MOESMITH_SOURCE_DIR "/src") / name / "options.h";
    const std::string sources = sources_without(header);
    std::istringstream lines(text_of(header));
    std::string line;
    int found = 0;
    while (std::getline(lines, line)) {
      std::smatch match;
      if (!std::regex_search(line, match, member) || match[1] == "batch_size") {
        continue;
      }
      ++found;
      const std::string option = match[1];
      const bool is_read = sources.find("." + option) != std::string::npos ||
                           sources.find("->" + option) != std::string::npos;
      EXPECT_TRUE(is_read) << name << "/options.h: " << option;
    }
    EXPECT_GT(found, 15);
  }
}

}  // namespace
}  // namespace moesmith::config
