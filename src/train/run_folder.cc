// SPDX-License-Identifier: Apache-2.0
#include "train/run_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "core/text.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "checkpoint-";
// What a run writes into output_dir itself; --overwrite removes these names and no others.
constexpr const char* kArtefacts[] = {"adapter_model.safetensors", "adapter_config.json",
                                      "model.safetensors",         "model.safetensors.index.json",
                                      "trainer_log.jsonl",         "trainer_state.json",
                                      "training_loss.svg"};
constexpr const char* kWeights[] = {"adapter_model.safetensors", "model.safetensors",
                                    "model.safetensors.index.json"};

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

bool is_shard(const std::string& name) {
  return name.starts_with("model-") && name.ends_with(".safetensors");
}

bool has_weights(const std::string& folder) {
  return std::any_of(std::begin(kWeights), std::end(kWeights),
                     [&](const char* name) { return fs::exists(fs::path(folder) / name); });
}

void remove_earlier_run(const std::string& folder) {
  for (const CheckpointFolder& checkpoint : list_checkpoints(folder)) {
    io::remove_all(checkpoint.path);
  }
  for (const char* name : kArtefacts) io::remove_all(folder + "/" + name);
  for (const std::string& name : names_in(folder)) {
    if (is_shard(name)) io::remove_all(folder + "/" + name);
  }
}

void refuse_if_used(const std::string& folder) {
  const auto checkpoints = list_checkpoints(folder);
  if (checkpoints.empty() && !has_weights(folder)) return;
  const std::string found = checkpoints.empty()
                                ? "the weights of an earlier run"
                                : str("an earlier run up to checkpoint-", checkpoints.front().step);
  throw Error(ErrorCode::kInvalidInput,
              str("output_dir: ", folder, " holds ", found,
                  ", expected a folder without one: set auto_resume_from_checkpoints: true to go "
                  "on from its newest checkpoint, overwrite_output_dir: true to remove it, or "
                  "another output_dir"));
}

std::optional<ResumePoint> newest_whole(const std::string& output_dir, const Note& note) {
  for (const CheckpointFolder& checkpoint : list_checkpoints(output_dir)) {
    try {
      TrainerState state = read_checkpoint(checkpoint.path);
      if (!state.has_optimizer) {
        note(str(checkpoint.path, ": passed over: it was saved with save_only_model"));
        continue;
      }
      return ResumePoint{checkpoint.path, std::move(state)};
    } catch (const Error& error) {
      note(str("checkpoint passed over: ", error.what()));
    }
  }
  return std::nullopt;
}

ResumePoint named_checkpoint(const std::string& folder) {
  if (!fs::is_directory(folder)) {
    throw Error(ErrorCode::kNotFound,
                str("resume_from_checkpoint: no folder ", folder, ", expected a checkpoint-N"));
  }
  TrainerState state = read_checkpoint(folder);
  if (!state.has_optimizer) {
    throw Error(ErrorCode::kInvalidInput,
                str("resume_from_checkpoint: ", folder,
                    " was saved with save_only_model, expected one with the optimiser's state"));
  }
  return {folder, std::move(state)};
}

}  // namespace

FolderLock::FolderLock(const std::string& folder) {
  io::make_directories(folder);
  file_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file_ < 0 || ::access(folder.c_str(), W_OK | X_OK) != 0) {
    const int error = errno;
    if (file_ >= 0) ::close(file_);
    throw Error(ErrorCode::kIo,
                str("output_dir: ", folder, ": cannot write to it: ", std::strerror(error)));
  }
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    ::close(file_);
    throw Error(ErrorCode::kInvalidInput,
                str("output_dir: ", folder, ": another run is writing to it, expected none"));
  }
}

FolderLock::~FolderLock() { ::close(file_); }

std::vector<CheckpointFolder> list_checkpoints(const std::string& output_dir) {
  std::vector<CheckpointFolder> found;
  for (const std::string& name : names_in(output_dir)) {
    if (!name.starts_with(kPrefix)) continue;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size();
    std::int64_t step = 0;
    const auto [rest, error] = std::from_chars(begin, end, step);
    if (error != std::errc() || rest != end || step < 0) continue;
    const std::string path = output_dir + "/" + name;
    if (fs::is_directory(path)) found.push_back({path, step});
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

TrainerState read_checkpoint(const std::string& folder) {
  const std::string path = folder + "/trainer_state.json";
  TrainerState state = parse_trainer_state(io::read_file(path), path);
  for (const auto& [name, record] : state.files) {
    const std::string file = folder + "/" + name;
    std::error_code error;
    const auto bytes = static_cast<std::int64_t>(fs::file_size(file, error));
    if (error) throw Error(ErrorCode::kNotFound, str(file, ": ", error.message()));
    if (bytes != record.bytes) {
      throw Error(ErrorCode::kInvalidInput,
                  str(file, ": got ", bytes, " bytes, expected ", record.bytes));
    }
    if (file_hash(file) != record.hash) {
      throw Error(ErrorCode::kInvalidInput, str(file, ": its content is not what was written"));
    }
  }
  return state;
}

std::optional<ResumePoint> open_run(const TrainJob& job, const Note& note) {
  const std::string& folder = job.train.output_dir;
  io::remove_stale_temporaries(folder);
  const std::string& wish = job.train.resume_from_checkpoint;
  if (!wish.empty() && wish != "true") return named_checkpoint(wish);
  if (job.overwrite_output_dir && wish.empty()) {
    remove_earlier_run(folder);
    return std::nullopt;
  }
  if (wish == "true" || job.train.auto_resume_from_checkpoints) {
    std::optional<ResumePoint> point = newest_whole(folder, note);
    if (point) return point;
    if (wish == "true") {
      throw Error(ErrorCode::kNotFound, str("resume_from_checkpoint: true, but ", folder,
                                            " has no checkpoint to go on from, expected one"));
    }
    if (has_weights(folder)) refuse_if_used(folder);
    return std::nullopt;
  }
  refuse_if_used(folder);
  return std::nullopt;
}

void remove_old_checkpoints(const std::string& output_dir, std::int64_t step, std::int64_t limit) {
  if (limit <= 0) return;
  std::int64_t kept = 0;
  for (const CheckpointFolder& checkpoint : list_checkpoints(output_dir)) {
    if (checkpoint.step > step || ++kept <= limit) continue;
    // Renamed first: a run killed half-way through leaves a temporary, not half a checkpoint.
    const std::string doomed = checkpoint.path + std::string(io::kTemporarySuffix);
    io::remove_all(doomed);
    std::error_code error;
    fs::rename(checkpoint.path, doomed, error);
    if (error) throw Error(ErrorCode::kIo, str(checkpoint.path, ": ", error.message()));
    io::remove_all(doomed);
  }
}

}  // namespace moesmith::train
