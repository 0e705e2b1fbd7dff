// SPDX-License-Identifier: Apache-2.0
// output_dir between runs: who writes to it, which checkpoints it has, which of them are whole, and
// what a new run may do with what an earlier one left.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

using Note = std::function<void(const std::string&)>;

// Holds an advisory lock on a folder while it lives. The constructor makes the folder; Error(kIo)
// when it cannot be made or written, Error(kInvalidInput) when another process holds the lock.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_ = -1;
};

struct CheckpointFolder {
  std::string path;
  std::int64_t step = 0;
};

// The checkpoint-N folders in `output_dir`, newest (largest N) first. Whole or not.
std::vector<CheckpointFolder> list_checkpoints(const std::string& output_dir);

// Reads trainer_state.json and checks the length and content of every file it lists. Throws Error
// with what is wrong: a file is missing, shorter, longer or other than it was written.
TrainerState read_checkpoint(const std::string& folder);

struct ResumePoint {
  std::string folder;
  TrainerState state;
};

// The checkpoint to go on from: resume_from_checkpoint ("true" means the newest), or the newest
// under auto_resume_from_checkpoints; nothing when the run starts anew. Newest ones that are not
// whole are passed over with a note; a named one that is not is an Error, and so is "true" without
// any. Without a wish to resume, a folder with checkpoints or weights of an earlier run is an
// Error(kInvalidInput) that names the ways out, unless job.overwrite_output_dir: then they are
// removed.
std::optional<ResumePoint> open_run(const TrainJob& job, const Note& note);

// Removes the oldest checkpoints of up to `step` steps so that `limit` of them stay (0: all stay).
void remove_old_checkpoints(const std::string& output_dir, std::int64_t step, std::int64_t limit);

}  // namespace moesmith::train
