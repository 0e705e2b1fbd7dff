// SPDX-License-Identifier: Apache-2.0
// train(): one training run, from options to the artefacts in output_dir. It reports through an
// observer and never prints; the command line renders the events.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "model/options.h"
#include "moesmith/tensor.h"
#include "train/options.h"

namespace moesmith::train {

// Everything a run needs. Plain values; nothing is read before train() is called.
struct TrainJob {
  TrainOptions train;
  model::ModelOptions model;
  model::LoraOptions lora;
  // The configuration as the user wrote it, for the model card; "" leaves it out of the card.
  std::string config_text;
  // output_dir holds a run already: false refuses, true removes what that run left (its
  // checkpoint-N folders and artefacts, by name; nothing else) and starts anew.
  bool overwrite_output_dir = false;
  // Texts that the model continues before the first and after the last step (on_sample). They are
  // tokenised as they stand.
  std::vector<std::string> sample_prompts;
  model::GenerationOptions generation;
};

// One line of the memory plan.
struct MemoryItem {
  std::string name;  // "weights (mapped)", "adapter", "gradients", "optimiser", "activations", ...
  std::int64_t bytes = 0;
  // False for what the system may drop and read again (mapped weights): it does not count in the
  // peak that must fit.
  bool counted = true;
};

struct MemoryPlan {
  std::vector<MemoryItem> items;
  std::int64_t peak_bytes = 0;       // sum of the counted items
  std::int64_t available_bytes = 0;  // of the machine or the cgroup, whichever is less
  std::int64_t packed_experts = 0;   // what packed copies of frozen experts take or would take
  bool pack_experts = false;         // whether they are made, and counted
};

struct TrainedTensor {
  std::string name;
  Shape shape;
  std::int64_t count = 0;  // elements
};

struct RunStart {
  std::vector<TrainedTensor> trained;  // in the model's order
  std::int64_t trainable_count = 0;
  std::int64_t total_count = 0;  // all parameters, adapter included
  std::int64_t total_steps = 0;
  std::int64_t first_step = 0;  // > 0 when resumed: steps done already
  double num_epochs = 0.0;
  std::int64_t warmup_steps = 0;
  std::int64_t train_samples = 0, train_tokens = 0, trained_tokens = 0;  // of one epoch
  std::int64_t eval_samples = 0;
  std::string experts_plan;  // which implementation runs and why, in a line or more
  std::string resumed_from;  // the checkpoint's folder, or ""
  int num_threads = 1;
};

// After every optimiser step. Those with `logged` are the ones that trainer_log.jsonl has; their
// loss is the mean over the steps since the last logged one, the others' is their own.
struct StepReport {
  std::int64_t step = 0;  // steps done, this one included
  std::int64_t total_steps = 0;
  double epoch = 0.0;
  double loss = 0.0;       // cross entropy per trained token
  double aux_loss = 0.0;   // load balancing, weighted as it was added; 0 where the model has none
  double lr = 0.0;         // that this step was made with
  double grad_norm = 0.0;  // before clipping
  double tokens_per_second = 0.0;  // input tokens, since the last logged step
  double elapsed_seconds = 0.0;    // of the whole run, resumed parts included
  double eta_seconds = 0.0;
  std::int64_t total_tokens = 0;  // input tokens since step 0
  std::int64_t peak_memory_bytes = 0;
  bool logged = false;
};

struct EvalReport {
  std::int64_t step = 0;
  double epoch = 0.0;
  double loss = 0.0;  // cross entropy per trained token of the whole evaluation set
  double perplexity = 0.0;
  std::int64_t num_tokens = 0;  // trained tokens that the loss is the mean of
  double seconds = 0.0;
};

struct SaveReport {
  std::string path;  // folder
  std::int64_t step = 0;
  std::int64_t bytes = 0;
  bool final = false;  // output_dir itself; false for checkpoint-N
  // What reading the weights back and comparing the probe batch's logits gave, in words.
  std::string verification;
};

struct SampleReport {
  bool trained = false;  // false: before the first step
  std::string prompt, text;
};

// One part of a step, measured with TrainOptions::profile.
struct ProfilePart {
  std::string name;      // model/parts.h
  double seconds = 0.0;  // per step
  double share = 0.0;    // of the step; all parts together 1
  // 1e9 operations per second of the parts that are matrix products; of the experts those of the
  // base weights alone.
  std::optional<double> gflops;
};

enum class TrainOutcome { kFinished, kInterrupted };

struct TrainResult {
  TrainOutcome outcome = TrainOutcome::kFinished;
  std::int64_t steps = 0;
  double train_loss = 0.0;  // mean over the steps of this process
  std::optional<EvalReport> first_eval, last_eval;
  double seconds = 0.0;
  std::string output_dir;
  std::string checkpoint;  // newest checkpoint-N written, or ""
  std::string plot;        // training_loss.svg, or ""
  // The most expensive first; empty unless TrainOptions::profile. The first step, which reads the
  // weights in, is left out where there are others.
  std::vector<ProfilePart> profile;
  std::int64_t profiled_steps = 0;
};

// Called on the thread that runs train(). All do nothing unless overridden.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_memory_plan(const MemoryPlan&) {}  // before weights are read
  virtual void on_start(const RunStart&) {}          // before the first step
  virtual void on_step(const StepReport&) {}
  // done of total evaluation batches, so that a progress bar can move.
  virtual void on_evaluating(std::int64_t done, std::int64_t total) {
    (void)done;
    (void)total;
  }
  virtual void on_evaluation(const EvalReport&) {}
  virtual void on_saved(const SaveReport&) {}
  virtual void on_sample(const SampleReport&) {}
  virtual void on_note(const std::string&) {}  // a sentence the user should see once
};

// Set from a signal handler or another thread; looked at between micro-batches.
using StopToken = std::atomic<bool>;

// Runs to the end, or until `stop` is set: then the step under way is dropped, the last whole one
// is saved as checkpoint-N and as the adapter (or weights) in output_dir, and the outcome is
// kInterrupted. Throws Error: kInvalidInput/kNotFound/kUnsupported for a request that cannot be
// met, kOutOfMemory when the plan exceeds the memory there is, kIo when output_dir cannot be
// written; what was saved before stays valid.
TrainResult train(const TrainJob& job,
                  TrainObserver& observer,
                  ThreadPool& pool,
                  const StopToken& stop);

}  // namespace moesmith::train
