// SPDX-License-Identifier: Apache-2.0
// Files and folders that are either there whole or not at all: written under a temporary name,
// synced, renamed, and the folder that holds them synced. What the system refuses (no space, no
// permission) is Error(kIo) with the path and the system's text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moesmith::io {

// Ends the names of unfinished files and folders; nothing else may use it.
inline constexpr std::string_view kTemporarySuffix = ".moesmith-tmp";

// A file being written at `path` + kTemporarySuffix. Without commit() the destructor removes it.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  // Takes the room at once, so that a full disk is known before hours of work.
  void reserve(std::int64_t bytes);
  void append(const void* data, std::int64_t bytes);
  // Leaves the position of append alone.
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes);
  // Syncs, renames onto path() and syncs the folder.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  std::int64_t position_ = 0;
};

void write_file(const std::string& path, std::string_view content);

// A folder being filled at folder() (`path` + kTemporarySuffix, emptied if it was left over).
// commit() syncs every file and folder inside and renames; a folder already at `path` is replaced
// in one step and then removed. Without commit() the destructor removes what was written.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::string path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::string& folder() const noexcept { return temporary_; }
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool committed_ = false;
};

// Removes what an interrupted run left in `folder` (names that end in kTemporarySuffix, not
// recursive). Does nothing when the folder is not there.
void remove_stale_temporaries(const std::string& folder);

// mkdir -p.
void make_directories(const std::string& path);
// rm -r; nothing there is no error.
void remove_all(const std::string& path);
// Copies a regular file, written atomically.
void copy_file(const std::string& from, const std::string& to);
// The whole file; Error(kNotFound) or Error(kIo).
std::string read_file(const std::string& path);

}  // namespace moesmith::io
