// SPDX-License-Identifier: Apache-2.0
#include "train/train_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Error(ErrorCode::kIo, str(path, ": cannot ", what, ": ", std::strerror(errno)));
}

// Shortest text that reads back as the same double; JSON has no infinities, so those are null.
std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

std::string place(const StepReport& s) {
  const double share = 100.0 * static_cast<double>(s.step) /
                       static_cast<double>(std::max<std::int64_t>(1, s.total_steps));
  return str("\"epoch\": ", number(s.epoch),
             ", \"percentage\": ", number(std::round(share * 100.0) / 100.0),
             ", \"elapsed_time\": \"", clock_text(s.elapsed_seconds), "\", \"remaining_time\": \"",
             clock_text(s.eta_seconds),
             "\", \"throughput\": ", number(std::round(s.tokens_per_second * 100.0) / 100.0),
             ", \"total_tokens\": ", s.total_tokens);
}

}  // namespace

std::string clock_text(double seconds) {
  const auto total = static_cast<std::int64_t>(std::max(0.0, seconds));
  const std::int64_t days = total / 86400;
  const auto two = [](std::int64_t value) {
    return (value < 10 ? "0" : "") + std::to_string(value);
  };
  std::string text;
  if (days > 0) text = str(days, days == 1 ? " day, " : " days, ");
  return str(text, total / 3600 % 24, ":", two(total / 60 % 60), ":", two(total % 60));
}

TrainLog::TrainLog(std::string path, std::int64_t keep_bytes) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) fail(path_, "open for writing");
  struct stat info {};
  if (::fstat(file_, &info) != 0) fail(path_, "look at");
  shortened_ = info.st_size < keep_bytes;
  bytes_ = std::min<std::int64_t>(info.st_size, keep_bytes);
  if (::ftruncate(file_, bytes_) != 0) fail(path_, "cut to its checkpoint");
  if (::lseek(file_, bytes_, SEEK_SET) < 0) fail(path_, "seek in");
}

TrainLog::~TrainLog() {
  if (file_ >= 0 && ::close(file_) != 0) {
    log(LogLevel::kWarning, str(path_, ": cannot close: ", std::strerror(errno)));
  }
}

void TrainLog::append(const std::string& line) {
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = ::write(file_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path_, "write");
    done += static_cast<std::size_t>(written);
  }
  bytes_ += static_cast<std::int64_t>(line.size());
}

void TrainLog::write(const StepReport& s) {
  const std::string aux = s.aux_loss != 0.0 ? ", \"aux_loss\": " + number(s.aux_loss) : "";
  append(str("{\"current_steps\": ", s.step, ", \"total_steps\": ", s.total_steps,
             ", \"loss\": ", number(s.loss), aux, ", \"lr\": ", number(s.lr),
             ", \"grad_norm\": ", number(s.grad_norm), ", ", place(s),
             ", \"peak_memory\": ", s.peak_memory_bytes, "}\n"));
}

void TrainLog::write(const EvalReport& eval, const StepReport& last_step) {
  append(str("{\"current_steps\": ", eval.step, ", \"total_steps\": ", last_step.total_steps,
             ", \"eval_loss\": ", number(eval.loss),
             ", \"eval_perplexity\": ", number(eval.perplexity), ", ", place(last_step), "}\n"));
}

void TrainLog::sync() {
  if (::fsync(file_) != 0) fail(path_, "sync");
}

}  // namespace moesmith::train
