// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_write.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "moesmith/error.h"
#include "temp_dir.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

const std::string kSuffix(kTemporarySuffix);

TEST(atomic_file, appears_only_on_commit) {
  TempDir dir;
  AtomicFile file(dir / "a");
  file.append("hello", 5);
  file.write_at(1, "u", 1);
  file.append("!", 1);
  EXPECT_FALSE(fs::exists(dir / "a"));
  file.commit();
  EXPECT_EQ(read_file(dir / "a"), "hullo!");
  EXPECT_FALSE(fs::exists((dir / "a") + kSuffix));
}

TEST(atomic_file, leaves_the_old_content_without_commit) {
  TempDir dir;
  write_file(dir / "a", "old");
  {
    AtomicFile file(dir / "a");
    file.append("new", 3);
  }
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_FALSE(fs::exists((dir / "a") + kSuffix));
  write_file(dir / "a", "new");
  EXPECT_EQ(read_file(dir / "a"), "new");
}

TEST(atomic_file, starts_over_a_leftover) {
  TempDir dir;
  fs::copy_file(MOESMITH_TEST_DATA "/io/README.md", (dir / "a") + kSuffix);
  write_file(dir / "a", "x");
  EXPECT_EQ(read_file(dir / "a"), "x");
}

TEST(atomic_file, names_path_and_reason_of_a_refusal) {
  TempDir dir;
  EXPECT_ERROR(write_file(dir / "none/a", "x"), ErrorCode::kIo, "No such file or directory");
  fs::create_directory(dir / "folder");
  write_file(dir / "folder/inside", "x");
  EXPECT_ERROR(write_file(dir / "folder", "x"), ErrorCode::kIo, "cannot rename to");
  EXPECT_ERROR(read_file(dir / "none"), ErrorCode::kNotFound, "there is no such file");
  EXPECT_ERROR(read_file(dir / "folder"), ErrorCode::kIo, "cannot read");
  if (geteuid() != 0) {
    fs::permissions(dir / "folder", fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_ERROR(write_file(dir / "folder/b", "x"), ErrorCode::kIo, "Permission denied");
    fs::permissions(dir / "folder", fs::perms::owner_all);
  }
}

// The limit on file size stands for a full disk: the same path through write, another errno.
TEST(atomic_file, reports_a_disk_that_is_full) {
  TempDir dir;
  rlimit old = {};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small = {4096, old.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string content(100000, 'x');
  const Caught writing = catch_error([&] { write_file(dir / "a", content); });
  const Caught reserving = catch_error([&] { AtomicFile(dir / "b").reserve(100000); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(writing.code, ErrorCode::kIo);
  EXPECT_NE(writing.text.find(dir / "a"), std::string::npos) << writing.text;
  EXPECT_NE(writing.text.find("cannot write: File too large"), std::string::npos) << writing.text;
  EXPECT_EQ(reserving.code, ErrorCode::kIo) << reserving.text;
  EXPECT_TRUE(fs::is_empty(dir.path()));
  // A device that is always full, where the system has one.
  if (fs::exists("/dev/full") && geteuid() == 0) {
    fs::create_symlink("/dev/full", (dir / "c") + kSuffix);
    EXPECT_ERROR(write_file(dir / "c", "x"), ErrorCode::kIo, "No space left on device");
  }
}

TEST(atomic_directory, appears_whole) {
  TempDir dir;
  const std::string target = dir / "checkpoint-5";
  {
    AtomicDirectory directory(target + "/");
    write_file(directory.folder() + "/a", "1");
    make_directories(directory.folder() + "/sub/deep");
    write_file(directory.folder() + "/sub/deep/b", "2");
    EXPECT_FALSE(fs::exists(target));
    directory.commit();
  }
  EXPECT_EQ(read_file(target + "/a"), "1");
  EXPECT_EQ(read_file(target + "/sub/deep/b"), "2");
  EXPECT_FALSE(fs::exists(target + kSuffix));
}

TEST(atomic_directory, is_removed_without_commit) {
  TempDir dir;
  {
    AtomicDirectory directory(dir / "x");
    write_file(directory.folder() + "/a", "1");
  }
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(atomic_directory, replaces_an_old_one_as_a_whole) {
  TempDir dir;
  fs::create_directory(dir / "x");
  write_file(dir / "x/old", "1");
  AtomicDirectory directory(dir / "x");
  write_file(directory.folder() + "/new", "2");
  EXPECT_TRUE(fs::exists(dir / "x/old"));
  directory.commit();
  EXPECT_FALSE(fs::exists(dir / "x/old"));
  EXPECT_EQ(read_file(dir / "x/new"), "2");
  EXPECT_FALSE(fs::exists((dir / "x") + kSuffix));
}

TEST(atomic_directory, empties_a_leftover) {
  TempDir dir;
  fs::create_directory((dir / "x") + kSuffix);
  write_file((dir / "x") + kSuffix + "/stale", "1");
  AtomicDirectory directory(dir / "x");
  directory.commit();
  EXPECT_TRUE(fs::is_empty(dir / "x"));
}

TEST(stale_temporaries, are_removed_and_nothing_else) {
  TempDir dir;
  fs::create_directory((dir / "checkpoint-3") + kSuffix);
  write_file((dir / "checkpoint-3") + kSuffix + "/a", "1");
  fs::copy_file(dir / ("checkpoint-3" + kSuffix + "/a"), (dir / "b") + kSuffix);
  write_file(dir / "kept.tmp", "x");
  fs::create_directory(dir / "checkpoint-2");
  remove_stale_temporaries(dir.path());
  EXPECT_FALSE(fs::exists((dir / "checkpoint-3") + kSuffix));
  EXPECT_FALSE(fs::exists((dir / "b") + kSuffix));
  EXPECT_TRUE(fs::exists(dir / "kept.tmp"));
  EXPECT_TRUE(fs::exists(dir / "checkpoint-2"));
  EXPECT_NO_THROW(remove_stale_temporaries(dir / "none"));
}

TEST(folders, are_made_and_removed) {
  TempDir dir;
  make_directories(dir / "a/b/c/");
  EXPECT_TRUE(fs::is_directory(dir / "a/b/c"));
  EXPECT_NO_THROW(make_directories(dir / "a/b/c"));
  write_file(dir / "a/file", "x");
  EXPECT_ERROR(make_directories(dir / "a/file/d"), ErrorCode::kIo, "cannot create the folder");
  remove_all(dir / "a");
  EXPECT_FALSE(fs::exists(dir / "a"));
  EXPECT_NO_THROW(remove_all(dir / "a"));
}

}  // namespace
}  // namespace moesmith::io
