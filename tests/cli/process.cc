// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace moesmith::cli {
namespace {

namespace fs = std::filesystem;
constexpr auto kPatience = std::chrono::minutes(2);

[[noreturn]] void become_command(const std::vector<std::string>& arguments,
                                 const ProcessOptions& options) {
  for (const std::string& entry : options.environment) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos) {
      unsetenv(entry.c_str());
    } else {
      setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
    }
  }
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) {
    _exit(126);
  }
  std::vector<std::string> words{MOESMITH_BINARY_DIR "/src/cli/moesmith"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

struct Streams {
  int in = -1, out = -1, err = -1;  // the test's ends
};

pid_t start_with_pipes(const std::vector<std::string>& arguments,
                       const ProcessOptions& options,
                       Streams& streams) {
  std::array<int, 2> in, out, err;
  if (pipe2(in.data(), O_CLOEXEC) != 0 || pipe2(out.data(), O_CLOEXEC) != 0 ||
      pipe2(err.data(), O_CLOEXEC) != 0) {
    return -1;
  }
  const pid_t child = fork();
  if (child == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    become_command(arguments, options);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  streams = {in[1], out[0], err[0]};
  return child;
}

pid_t start_with_terminal(const std::vector<std::string>& arguments,
                          const ProcessOptions& options,
                          Streams& streams) {
  winsize size{24, 100, 0, 0};
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    become_command(arguments, options);
  }
  streams = {terminal, terminal, -1};
  return child;
}

}  // namespace

Outcome run_command(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  signal(SIGPIPE, SIG_IGN);  // a command that does not read its stdin
  Streams streams;
  const pid_t child = options.terminal ? start_with_terminal(arguments, options, streams)
                                       : start_with_pipes(arguments, options, streams);
  Outcome outcome;
  if (child < 0) {
    return outcome;
  }
  const ssize_t written = write(streams.in, options.input.data(), options.input.size());
  (void)written;
  if (!options.terminal) {
    close(streams.in);
  }
  const auto end = std::chrono::steady_clock::now() + kPatience;
  std::array<pollfd, 2> ends{pollfd{streams.out, POLLIN, 0}, pollfd{streams.err, POLLIN, 0}};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(child, SIGKILL);
      break;
    }
    poll(ends.data(), ends.size(), 100);
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) {
        continue;
      }
      std::array<char, 4096> buffer;
      const ssize_t count = read(ends[i].fd, buffer.data(), buffer.size());
      if (count <= 0) {  // a terminal whose other end is closed gives EIO
        close(ends[i].fd);
        ends[i].fd = -1;
        continue;
      }
      (i == 0 ? outcome.out : outcome.err).append(buffer.data(), static_cast<std::size_t>(count));
    }
    if (options.watch) {
      options.watch(child, outcome.out + outcome.err);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "moesmith-cli-XXXXXX").string();
  path_ = mkdtemp(name.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text) const {
  const fs::path path = fs::path(path_) / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path.string();
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

bool exists(const std::string& path) { return fs::exists(path); }

}  // namespace moesmith::cli
