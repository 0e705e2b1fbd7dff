// SPDX-License-Identifier: Apache-2.0
#include "train/saver.h"

#include <cmath>
#include <filesystem>

#include "core/text.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "train/loss_plot.h"
#include "train/optimizer_state.h"
#include "train/probe.h"
#include "train/run_folder.h"

namespace moesmith::train {
namespace {

namespace fs = std::filesystem;

std::int64_t record_files(const std::string& folder, TrainerState& state) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto size = static_cast<std::int64_t>(entry.file_size());
    state.files[entry.path().filename().string()] = {size, file_hash(entry.path().string())};
    bytes += size;
  }
  return bytes;
}

// Losses that a change of kernels, not of weights, may make.
constexpr double kProbeSlack = 1e-2;

}  // namespace

SaveReport Saver::checkpoint(TrainerState state) {
  const std::string path = str(job_.train.output_dir, "/checkpoint-", state.step);
  io::AtomicDirectory folder(path);
  save_model(folder.folder(), job_, base_, state, model_);
  SaveReport report;
  report.path = path;
  report.step = state.step;
  report.verification = verify_saved(folder.folder(), job_, base_, model_, pool_);
  state.has_optimizer = !job_.train.save_only_model;
  if (state.has_optimizer) write_optimizer(folder.folder(), optimizer_);
  state.probe_loss = probe_loss(model_);
  state.files.clear();
  report.bytes = record_files(folder.folder(), state);
  // The log's length in the state must be true after a power cut too.
  log_.sync();
  state.log_bytes = log_.bytes();
  io::write_file(folder.folder() + "/trainer_state.json", to_json(state));
  folder.commit();
  remove_old_checkpoints(job_.train.output_dir, state.step, job_.train.save_total_limit);
  return report;
}

SaveReport Saver::artefacts(TrainerState state) {
  const std::string& path = job_.train.output_dir;
  save_model(path, job_, base_, state, model_);
  SaveReport report;
  report.path = path;
  report.step = state.step;
  report.final = true;
  report.verification = verify_saved(path, job_, base_, model_, pool_);
  state.files.clear();
  state.has_optimizer = false;
  log_.sync();
  state.log_bytes = log_.bytes();
  io::write_file(path + "/trainer_state.json", to_json(state));
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file()) report.bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return report;
}

std::string Saver::write_plot(const TrainerState& state) const {
  if (!job_.train.plot_loss) return "";
  const std::string path = job_.train.output_dir + "/training_loss.svg";
  const std::string title =
      fs::path(job_.train.output_dir).lexically_normal().filename().string() + ": training loss";
  io::write_file(path, loss_plot_svg(state.log_history, title));
  return path;
}

void restore(const std::string& folder,
             const TrainerState& state,
             model::CausalLM& model,
             Optimizer& optimizer) {
  read_optimizer(folder, optimizer);
  model.sync_values();
  const double loss = probe_loss(model);
  if (!(std::abs(loss - state.probe_loss) <= kProbeSlack * std::abs(state.probe_loss))) {
    throw Error(ErrorCode::kInvalidInput,
                str(folder, ": with its weights this model has a loss of ", loss,
                    " on the probe batch, the checkpoint noted ", state.probe_loss,
                    ": base_model has other weights than the run that wrote it"));
  }
}

}  // namespace moesmith::train
