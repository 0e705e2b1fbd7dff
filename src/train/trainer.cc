// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <memory>
#include <utility>

#include "core/cpu_features.h"
#include "core/text.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "model/causal_lm.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"
#include "train/generate.h"
#include "train/loop.h"
#include "train/memory.h"
#include "train/optimizer.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/run_settings.h"
#include "train/saver.h"
#include "train/schedule.h"
#include "train/timeline.h"
#include "train/train_log.h"

namespace moesmith::train {
namespace {

BaseModel find_base(const TrainJob& job) {
  BaseModel base;
  base.folder = io::resolve_model(job.train.base_model, job.train.revision_of_model);
  base.tokenizer_folder = job.train.tokenizer_config.empty()
                              ? base.folder
                              : io::resolve_model(job.train.tokenizer_config);
  return base;
}

TrainerState fresh_state(const TrainJob& job, const Timeline& timeline, const Cadence& cadence) {
  TrainerState state;
  state.total_steps = timeline.total_steps();
  state.num_epochs = timeline.num_epochs();
  state.logging_steps = cadence.log_every();
  state.eval_steps = cadence.eval_every();
  state.save_steps = cadence.save_every();
  state.micro_batch_size = job.train.micro_batch_size;
  state.isa = std::string(isa_name(active_isa()));
  return state;
}

// The checkpoint's progress under this run's plan.
void take_progress(TrainerState& state, const TrainerState& checkpoint) {
  state.step = checkpoint.step;
  state.epoch = checkpoint.epoch;
  state.log_history = checkpoint.log_history;
  state.micro_batches = checkpoint.micro_batches;
  state.total_tokens = checkpoint.total_tokens;
  state.trained_tokens = checkpoint.trained_tokens;
  state.elapsed_seconds = checkpoint.elapsed_seconds;
  state.log_bytes = checkpoint.log_bytes;
  state.running_loss = checkpoint.running_loss;
  state.running_aux = checkpoint.running_aux;
  state.running_steps = checkpoint.running_steps;
}

RunStart describe(const TrainJob& job,
                  model::CausalLM& model,
                  const RunData& data,
                  const TrainerState& state,
                  int num_threads) {
  RunStart start;
  for (const model::Parameter* parameter : model.parameters()) {
    const std::int64_t count = numel(parameter->shape);
    start.total_count += count;
    if (!parameter->trainable) continue;
    start.trainable_count += count;
    start.trained.push_back({parameter->name, parameter->shape, count});
  }
  start.total_steps = state.total_steps;
  start.first_step = state.step;
  start.num_epochs = state.num_epochs;
  start.warmup_steps = warmup_steps(job.train, state.total_steps);
  start.train_samples = data.train_samples;
  start.train_tokens = data.train_tokens;
  start.trained_tokens = data.trained_tokens;
  start.eval_samples = data.eval_samples;
  start.experts_plan = model.experts_plan();
  start.num_threads = num_threads;
  return start;
}

void write_samples(const TrainJob& job,
                   const text::Tokenizer& tokenizer,
                   model::CausalLM& model,
                   TrainObserver& observer,
                   bool trained) {
  std::vector<std::int32_t> stops;
  if (tokenizer.eos() && tokenizer.eos()->id >= 0) stops.push_back(tokenizer.eos()->id);
  for (const std::string& prompt : job.sample_prompts) {
    const std::vector<std::int32_t> tokens = tokenizer.encode(prompt, true);
    const Generation generation = generate(model, tokens, stops, job.generation);
    observer.on_sample({trained, prompt, tokenizer.decode(generation.tokens, true)});
  }
}

// One run: everything between the options and the artefacts, in the order it is made.
class Run {
 public:
  Run(const TrainJob& job, TrainObserver& observer, ThreadPool& pool, const StopToken& stop)
      : job_(job), observer_(observer), pool_(pool), stop_(stop) {}

  TrainResult operator()() {
    const Note note = [&](const std::string& text) { observer_.on_note(text); };
    base_ = find_base(job_);
    const FolderLock lock(job_.train.output_dir);
    const std::optional<ResumePoint> resume = open_run(job_, note);
    const text::Tokenizer tokenizer = text::Tokenizer::load(base_.tokenizer_folder);
    RunData data = open_data(job_, tokenizer, base_.tokenizer_folder, note);
    base_.chat_template = data.chat_template;
    const Timeline timeline(
        job_.train, [&](std::int64_t epoch) { return data.train->batches_in_epoch(epoch); });
    const Cadence cadence(job_.train, timeline, data.eval != nullptr);
    TrainerState state = fresh_state(job_, timeline, cadence);
    state.num_threads = pool_.num_threads();
    state.settings =
        run_settings(job_, io::read_file(base_.folder + "/config.json"), data.fingerprint);
    if (resume) adopt(*resume, state);
    model::LoadRequest request = load_request(job_, base_);
    request.model.pack_experts = check_memory(data);
    model::CausalLM model = model::CausalLM::load(request, pool_);
    require_vocabulary(tokenizer, model);
    note_positions(model);
    Optimizer optimizer(model.parameters(), job_.train, pool_);
    if (resume) restore(resume->folder, resume->state, model, optimizer);
    TrainLog log(job_.train.output_dir + "/trainer_log.jsonl", state.log_bytes);
    if (log.shortened()) {
      note("trainer_log.jsonl is shorter than its checkpoint knew it; lines before this are lost");
    }
    RunStart start = describe(job_, model, data, state, pool_.num_threads());
    if (resume) start.resumed_from = resume->folder;
    observer_.on_start(start);
    if (!resume) write_samples(job_, tokenizer, model, observer_, false);
    Saver saver(job_, base_, model, optimizer, log, pool_);
    const LoopParts parts{job_, model, optimizer, *data.train, data.eval.get(), timeline, cadence,
                          log,  saver, observer_, stop_};
    TrainResult result = run_loop(parts, state);
    finish(saver, state, result);
    if (result.outcome == TrainOutcome::kFinished) {
      write_samples(job_, tokenizer, model, observer_, true);
    }
    return result;
  }

 private:
  void adopt(const ResumePoint& resume, TrainerState& state) {
    check_settings(resume.folder, resume.state.settings, state.settings);
    if (resume.state.step > state.total_steps) {
      throw Error(ErrorCode::kInvalidInput,
                  str(resume.folder, ": the checkpoint has done ", resume.state.step,
                      " steps, expected at most the ", state.total_steps,
                      " of this run: raise num_epochs or max_steps"));
    }
    for (const std::string& text : resume_notes(resume.state, state.total_steps)) {
      observer_.on_note(text);
    }
    take_progress(state, resume.state);
  }

  // Whether frozen experts are packed.
  model::PackExperts check_memory(const RunData& data) {
    const model::MemoryEstimate estimate = model::estimate_memory(
        load_request(job_, base_), data.max_batch_tokens, pool_.num_threads());
    const MemoryPlan plan = plan_memory(estimate, job_.model.pack_experts);
    observer_.on_memory_plan(plan);
    require_fit(plan);
    return plan.pack_experts ? model::PackExperts::kAlways : model::PackExperts::kNever;
  }

  void require_vocabulary(const text::Tokenizer& tokenizer, const model::CausalLM& model) {
    if (tokenizer.vocab_size() <= model.vocab_size()) return;
    throw Error(ErrorCode::kInvalidInput,
                str(base_.tokenizer_folder, ": the tokenizer has ", tokenizer.vocab_size(),
                    " tokens, expected at most the model's vocab_size of ", model.vocab_size()));
  }

  void note_positions(const model::CausalLM& model) {
    if (job_.train.sequence_len <= model.max_position_embeddings()) return;
    observer_.on_note(str("sequence_len is ", job_.train.sequence_len, ", the model was made for ",
                          model.max_position_embeddings(),
                          " positions: what lies beyond them is new to it"));
  }

  void finish(Saver& saver, const TrainerState& state, TrainResult& result) {
    result.output_dir = job_.train.output_dir;
    if (state.step == 0) {
      observer_.on_note("stopped before the first step: there is nothing to save");
      return;
    }
    result.plot = saver.write_plot(state);
    observer_.on_saved(saver.artefacts(state));
  }

  const TrainJob& job_;
  TrainObserver& observer_;
  ThreadPool& pool_;
  const StopToken& stop_;
  BaseModel base_;
};

}  // namespace

TrainResult train(const TrainJob& job,
                  TrainObserver& observer,
                  ThreadPool& pool,
                  const StopToken& stop) {
  return Run(job, observer, pool, stop)();
}

}  // namespace moesmith::train
