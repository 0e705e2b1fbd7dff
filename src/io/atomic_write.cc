// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_write.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "core/log.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  throw Error(ErrorCode::kIo, path + ": cannot " + doing + ": " + std::strerror(error));
}

[[noreturn]] void fail(const std::string& path, const char* doing, const std::error_code& error) {
  throw Error(ErrorCode::kIo, path + ": cannot " + doing + ": " + error.message());
}

// "a/b/" and "a/b/." name the same folder as "a/b", but have no temporary name beside it.
std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void sync_path(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) fail(path, "open", errno);
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some file systems cannot sync a folder; there is nothing more to be done on them.
  if (failed != 0 && !((flags & O_DIRECTORY) && (failed == EINVAL || failed == ENOTSUP))) {
    fail(path, "sync", failed);
  }
}

void sync_folder(const std::string& path) { sync_path(path, O_RDONLY | O_DIRECTORY); }

void sync_tree(const std::string& folder) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_symlink(error)) continue;
    if (it->is_directory(error)) {
      sync_folder(it->path().string());
    } else if (it->is_regular_file(error)) {
      sync_path(it->path().string(), O_RDONLY);
    }
  }
  if (error) fail(folder, "list", error);
  sync_folder(folder);
}

void log_leftover(const std::string& path, const std::error_code& error) {
  if (error) log(LogLevel::kWarning, path + ": cannot remove: " + error.message());
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + std::string(kTemporarySuffix)) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(temporary_, "create", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (::unlink(temporary_.c_str()) != 0) {
    log(LogLevel::kWarning, temporary_ + ": cannot remove: " + std::strerror(errno));
  }
}

void AtomicFile::reserve(std::int64_t bytes) {
  if (bytes <= 0) return;
  const int error = ::posix_fallocate(fd_, 0, bytes);
  // Where the file system cannot reserve, the write itself will find out.
  if (error != 0 && error != EOPNOTSUPP && error != EINVAL) fail(temporary_, "reserve room", error);
}

void AtomicFile::append(const void* data, std::int64_t bytes) {
  write_at(position_, data, bytes);
  position_ += bytes;
}

void AtomicFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 30;  // Linux writes less than 2 GiB at once
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto count = static_cast<std::size_t>(std::min(bytes, kLargest));
    const ssize_t done = ::pwrite(fd_, next, count, offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail(temporary_, "write", errno);
    if (done == 0) fail(temporary_, "write", ENOSPC);
    next += done;
    offset += done;
    bytes -= done;
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail(temporary_, "sync", errno);
  const int fd = fd_;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "rename to", errno);
  fd_ = -1;  // the destructor has nothing to remove any more
  if (::close(fd) != 0) fail(path_, "close", errno);
  sync_folder(parent_of(path_));
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.append(content.data(), static_cast<std::int64_t>(content.size()));
  file.commit();
}

AtomicDirectory::AtomicDirectory(std::string path)
    : path_(without_trailing_slash(std::move(path))),
      temporary_(path_ + std::string(kTemporarySuffix)) {
  remove_all(temporary_);
  make_directories(temporary_);
}

AtomicDirectory::~AtomicDirectory() {
  if (committed_) return;
  std::error_code error;
  fs::remove_all(temporary_, error);
  log_leftover(temporary_, error);
}

void AtomicDirectory::commit() {
  sync_tree(temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) == 0) {
    committed_ = true;
    sync_folder(parent_of(path_));
    return;
  }
  if (errno != ENOTEMPTY && errno != EEXIST) fail(path_, "rename to", errno);
  // A folder with files is there: the two trade names in one step, then the old one goes.
  if (::syscall(SYS_renameat2, AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(),
                RENAME_EXCHANGE) != 0) {
    fail(path_, "replace", errno);
  }
  committed_ = true;
  sync_folder(parent_of(path_));
  remove_all(temporary_);
}

void remove_stale_temporaries(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> stale;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().string();
    if (std::string_view(name).ends_with(kTemporarySuffix)) stale.push_back(name);
  }
  if (error && error != std::errc::no_such_file_or_directory) fail(folder, "list", error);
  for (const std::string& path : stale) remove_all(path);
}

void make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(without_trailing_slash(path), error);
  if (error) fail(path, "create the folder", error);
}

void remove_all(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "remove", error);
}

std::string read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      throw Error(ErrorCode::kNotFound, path + ": there is no such file");
    }
    fail(path, "open", errno);
  }
  std::string content;
  struct stat status = {};
  if (::fstat(fd, &status) == 0 && status.st_size > 0) {
    content.reserve(static_cast<std::size_t>(status.st_size) + 1);
  }
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int failed = errno;
      ::close(fd);
      fail(path, "read", failed);
    }
    if (count == 0) break;
    content.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(fd);
  return content;
}

void copy_file(const std::string& from, const std::string& to) { write_file(to, read_file(from)); }

}  // namespace moesmith::io
