// SPDX-License-Identifier: Apache-2.0
#include "train/data/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "moesmith/error.h"
#include "train/data/split.h"

namespace moesmith::train {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class Rows : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("moesmith_rows_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return (folder_ / name).string();
  }

  static std::vector<std::string> texts(const DatasetOptions& dataset) {
    std::vector<std::string> found;
    visit_rows(dataset, [&](const io::Json& row, const std::string&) {
      found.push_back(row.find("text")->as_string());
    });
    return found;
  }

  static std::string error_of(const DatasetOptions& dataset) {
    try {
      texts(dataset);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  fs::path folder_;
};

DatasetOptions at(const std::string& path) {
  DatasetOptions dataset;
  dataset.path = path;
  return dataset;
}

TEST_F(Rows, reads_json_lines_with_blank_lines_crlf_and_a_byte_order_mark) {
  const auto path =
      write("a.jsonl", "\xef\xbb\xbf{\"text\": \"one\"}\r\n\r\n  \n{\"text\": \"two\"}");
  EXPECT_THAT(texts(at(path)), ElementsAre("one", "two"));
}

TEST_F(Rows, reads_an_array_and_plain_text) {
  EXPECT_THAT(texts(at(write("a.json", " [{\"text\": \"one\"}, {\"text\": \"two\"}]"))),
              ElementsAre("one", "two"));
  EXPECT_THAT(texts(at(write("b.txt", "first\nsecond\n"))), ElementsAre("first\nsecond\n"));
}

TEST_F(Rows, takes_the_slice_that_the_split_names) {
  std::string lines;
  for (int i = 0; i < 10; ++i) lines += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  DatasetOptions dataset = at(write("a.jsonl", lines));
  dataset.split = "train[:20%]";
  EXPECT_THAT(texts(dataset), ElementsAre("0", "1"));
  dataset.split = "train[7:9]";
  EXPECT_THAT(texts(dataset), ElementsAre("7", "8"));
  dataset.split = "train[-1:]";
  EXPECT_THAT(texts(dataset), ElementsAre("9"));
}

TEST_F(Rows, of_a_folder_are_those_of_the_split_in_the_order_of_names) {
  write("d/train-2.jsonl", "{\"text\": \"b\"}");
  write("d/train-1.jsonl", "{\"text\": \"a\"}");
  write("d/test.jsonl", "{\"text\": \"c\"}");
  write("d/README.md", "no data");
  DatasetOptions dataset = at((folder_ / "d").string());
  EXPECT_THAT(texts(dataset), ElementsAre("a", "b"));
  dataset.split = "test";
  EXPECT_THAT(texts(dataset), ElementsAre("c"));
  dataset.split = "validation";
  EXPECT_THAT(error_of(dataset), HasSubstr("no split \"validation\", only: test, train"));
}

TEST_F(Rows, of_named_files_are_read_in_their_order) {
  write("d/x.jsonl", "{\"text\": \"x\"}");
  write("d/y.jsonl", "{\"text\": \"y\"}");
  DatasetOptions dataset = at((folder_ / "d").string());
  dataset.data_files = {"y.jsonl", "x.jsonl"};
  EXPECT_THAT(texts(dataset), ElementsAre("y", "x"));
}

TEST_F(Rows, refuses_what_is_not_a_row_and_says_where) {
  EXPECT_THAT(error_of(at(write("a.jsonl", "{\"text\": \"x\"}\n[1]\n"))),
              HasSubstr("a.jsonl:2: got array of 1, expected a JSON object"));
  EXPECT_THAT(error_of(at(write("b.jsonl", "{\"text\": \"x\"\n"))), HasSubstr("b.jsonl:1"));
  EXPECT_THAT(error_of(at(write("c.jsonl", "{\"text\": \"\xff\"}\n"))), HasSubstr("c.jsonl:1"));
  EXPECT_THAT(error_of(at(write("d.csv", "a,b\n"))), HasSubstr("expected .jsonl, .json or .txt"));
  EXPECT_THAT(error_of(at((folder_ / "absent").string())),
              HasSubstr("neither a file nor a folder"));
  fs::create_directories(folder_ / "empty");
  EXPECT_THAT(error_of(at((folder_ / "empty").string())), HasSubstr("holds no"));
  EXPECT_THAT(error_of(at(write("e.json", "[{\"text\": \"x\"}, 3]"))),
              HasSubstr("e.json[1]: got integer 3"));
}

TEST_F(Rows, reads_arrays_whose_strings_hold_brackets) {
  EXPECT_THAT(texts(at(write("a.json",
                             "\xef\xbb\xbf\n[ {\"text\": \"a]},{[\\\"\\\\\"} ,\n"
                             "{\"text\": \"b\", \"x\": [{\"y\": [1]}]}\n] \n"))),
              ElementsAre("a]},{[\"\\", "b"));
  EXPECT_THAT(texts(at(write("b.json", "[]"))), ElementsAre());
  EXPECT_THAT(texts(at(write("c.json", " [ \n ] "))), ElementsAre());
}

TEST_F(Rows, refuses_broken_arrays) {
  const auto error = [&](const std::string& content) {
    return error_of(at(write("a.json", content)));
  };
  EXPECT_THAT(error("["), HasSubstr("a.json[0]: the file ends inside the array"));
  EXPECT_THAT(error("[{\"text\": \"a\"}"), HasSubstr("a.json[0]: the file ends inside"));
  EXPECT_THAT(error("[{\"text\": \"a\"},"), HasSubstr("a.json[1]: the file ends inside"));
  EXPECT_THAT(error("[{\"text\": \"a\"}] x"), HasSubstr("text follows the end of the array"));
  EXPECT_THAT(error("[{\"text\": \"a\"},]"), HasSubstr("a.json[1]"));
  EXPECT_THAT(error("[{\"text\": \"a\"} {}]"), HasSubstr("a.json[0]"));
}

TEST_F(Rows, refuses_a_huge_row_before_reading_it_whole) {
  const std::string big(std::size_t{66} << 20, 'x');
  EXPECT_THAT(error_of(at(write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"" + big))),
              HasSubstr("a.jsonl:2: got a row of more than 64 MiB"));
  EXPECT_THAT(error_of(at(write("b.json", "[{\"text\": \"" + big))),
              HasSubstr("b.json[0]: got a row of more than 64 MiB"));
}

TEST_F(Rows, of_an_empty_file_are_none) {
  EXPECT_THAT(texts(at(write("a.jsonl", ""))), ElementsAre());
  EXPECT_THAT(texts(at(write("b.jsonl", "\n\r\n \t\n"))), ElementsAre());
}

TEST(split, parses_names_and_slices_and_nothing_else) {
  EXPECT_EQ(parse_split("train").range(7), (std::pair<std::int64_t, std::int64_t>(0, 7)));
  EXPECT_EQ(parse_split("train[10%:50%]").range(10), (std::pair<std::int64_t, std::int64_t>(1, 5)));
  EXPECT_EQ(parse_split("train[3:]").range(2), (std::pair<std::int64_t, std::int64_t>(2, 2)));
  EXPECT_EQ(parse_split("x[:-2]").range(5), (std::pair<std::int64_t, std::int64_t>(0, 3)));
  for (const char* text : {"", "train[", "train[5]", "train[a:b]", "train[:200%]", "train+test",
                           "train[1.5:]", "[:3]"}) {
    EXPECT_THROW(parse_split(text), Error) << text;
  }
}

}  // namespace
}  // namespace moesmith::train
