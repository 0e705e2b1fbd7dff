// SPDX-License-Identifier: Apache-2.0
// trainer_log.jsonl: one JSON object a line, with LLaMA-Factory's field names, written whole and at
// once so that a reader never sees half a line of a living run.
#pragma once

#include <cstdint>
#include <string>

#include "train/trainer.h"

namespace moesmith::train {

class TrainLog {
 public:
  // Opens or creates the file and cuts it to `keep_bytes` (0: empty). Throws Error(kIo).
  // shortened() tells that it had fewer bytes than that.
  TrainLog(std::string path, std::int64_t keep_bytes);
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  void write(const StepReport& step);
  void write(const EvalReport& eval, const StepReport& last_step);
  // To the disk; a checkpoint that names bytes() is published only after this.
  void sync();
  std::int64_t bytes() const noexcept { return bytes_; }
  bool shortened() const noexcept { return shortened_; }

 private:
  void append(const std::string& line);

  std::string path_;
  int file_ = -1;
  std::int64_t bytes_ = 0;
  bool shortened_ = false;
};

// "1:02:03", or "2 days, 1:02:03" as Python writes a timedelta.
std::string clock_text(double seconds);

}  // namespace moesmith::train
