// SPDX-License-Identifier: Apache-2.0
#include "train/loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "core/profile.h"
#include "core/text.h"
#include "io/system_memory.h"
#include "model/parts.h"
#include "moesmith/error.h"
#include "train/schedule.h"
#include "train/step_profile.h"

namespace moesmith::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct StepLoss {
  double loss = 0.0, aux = 0.0, grad_norm = 0.0, lr = 0.0;
  std::int64_t tokens = 0, trained_tokens = 0;
};

class Loop {
 public:
  Loop(const LoopParts& parts, TrainerState& state)
      : p_(parts),
        state_(state),
        total_(parts.timeline.total_steps()),
        warmup_(warmup_steps(parts.job.train, total_)),
        earlier_seconds_(state.elapsed_seconds),
        first_step_(state.step),
        saved_step_(state.step),
        profile_(parts.job.train.profile) {}

  TrainResult run() {
    bool whole = true;
    if (evaluation_is_due()) whole = evaluate_now();
    while (whole && state_.step < total_) whole = step_and_follow_up();
    if (!whole && state_.step > saved_step_) save();
    result_.outcome = whole ? TrainOutcome::kFinished : TrainOutcome::kInterrupted;
    result_.steps = state_.step;
    const std::int64_t steps = state_.step - first_step_;
    result_.train_loss = steps > 0 ? loss_sum_ / static_cast<double>(steps) : 0.0;
    result_.seconds = seconds_since(start_);
    profile_.finish(result_);
    return result_;
  }

 private:
  bool stopped() const { return p_.stop.load(std::memory_order_relaxed); }

  // Before the first step, and where a run was stopped between a step and its evaluation.
  bool evaluation_is_due() const {
    if (!p_.cadence.evaluates()) return false;
    const bool due = state_.step == 0 ||
                     p_.cadence.after(state_.step, p_.timeline.slice(state_.step - 1)).evaluate;
    const auto& history = state_.log_history;
    return due && std::none_of(history.begin(), history.end(), [&](const LogEntry& entry) {
             return entry.evaluation && entry.step == state_.step;
           });
  }

  // False when the run was stopped: then state and weights are those of the step before.
  bool step_and_follow_up() {
    const StepSlice slice = p_.timeline.slice(state_.step);
    const auto start = Clock::now();
    profile_.begin_step();
    const std::optional<StepLoss> loss = step(slice);
    profile_.end_step();
    if (!loss) return false;
    step_seconds_ += seconds_since(start);
    log_seconds_ += seconds_since(start);
    account(*loss, slice);
    const StepActions actions = p_.cadence.after(state_.step, slice);
    report(*loss, actions.log);
    if (actions.evaluate && !evaluate_now()) return false;
    if (actions.save) save();
    return !stopped() || state_.step == total_;
  }

  std::optional<StepLoss> step(const StepSlice& slice) {
    const profile::Scope whole(model::part::kOther);
    StepLoss out;
    const std::vector<model::Batch> batches = batches_of(slice, out);
    if (!gradients(batches, out)) return std::nullopt;
    const profile::Scope scope(model::part::kOptimiser);
    out.grad_norm = p_.optimizer.grad_norm();
    if (!std::isfinite(out.loss) || !std::isfinite(out.grad_norm)) {
      throw Error(ErrorCode::kInvalidInput,
                  str("train: step ", state_.step + 1, ": loss ", out.loss, ", gradient norm ",
                      out.grad_norm,
                      ", expected finite numbers: lower learning_rate, or raise warmup_steps"));
    }
    out.lr = learning_rate(p_.job.train, state_.step, warmup_, total_);
    p_.optimizer.step(out.lr, state_.step, out.grad_norm);
    p_.model.sync_values();
    return out;
  }

  std::vector<model::Batch> batches_of(const StepSlice& slice, StepLoss& out) {
    const profile::Scope scope(model::part::kData);
    std::vector<model::Batch> batches;
    for (std::int64_t i = 0; i < slice.num_batches; ++i) {
      batches.push_back(p_.train_data.batch(slice.epoch, slice.first_batch + i));
      const model::Batch& batch = batches.back();
      out.tokens += static_cast<std::int64_t>(batch.input_ids.size());
      out.trained_tokens += std::count_if(batch.labels.begin(), batch.labels.end(),
                                          [](std::int32_t t) { return t != model::kIgnoreLabel; });
    }
    return batches;
  }

  // Of the mean over all trained tokens of the step, plus the mean load-balancing loss. False when
  // the run was stopped on the way.
  bool gradients(const std::vector<model::Batch>& batches, StepLoss& out) {
    const double aux_share = p_.model.aux_loss_coef() / static_cast<double>(batches.size());
    const double token_share =
        1.0 / static_cast<double>(std::max<std::int64_t>(1, out.trained_tokens));
    {
      const profile::Scope scope(model::part::kOptimiser);
      p_.optimizer.zero_grads();
    }
    for (std::size_t i = 0; i < batches.size(); ++i) {
      if (stopped()) return false;
      p_.model.set_dropout(static_cast<std::uint64_t>(p_.job.train.seed),
                           static_cast<std::uint64_t>(state_.micro_batches) + i);
      const auto loss = p_.model.forward_backward(batches[i], static_cast<float>(token_share),
                                                  static_cast<float>(aux_share));
      out.loss += loss.sum * token_share;
      out.aux += loss.aux * aux_share;
    }
    return true;
  }

  void account(const StepLoss& loss, const StepSlice& slice) {
    state_.step += 1;
    state_.epoch = slice.epoch_after;
    state_.micro_batches += slice.num_batches;
    state_.total_tokens += loss.tokens;
    state_.trained_tokens += loss.trained_tokens;
    state_.running_loss += loss.loss;
    state_.running_aux += loss.aux;
    state_.running_steps += 1;
    loss_sum_ += loss.loss;
    log_tokens_ += loss.tokens;
    if (loss.grad_norm == 0.0 && !noted_inert_) {
      noted_inert_ = true;
      p_.observer.on_note(str("step ", state_.step,
                              ": the gradient norm is 0, nothing is being learnt: no token has a "
                              "label, or the adapter has no influence"));
    }
  }

  void report(const StepLoss& loss, bool logged) {
    const double steps = logged ? static_cast<double>(state_.running_steps) : 1.0;
    StepReport& r = last_;
    r.step = state_.step;
    r.total_steps = total_;
    r.epoch = state_.epoch;
    r.loss = logged ? state_.running_loss / steps : loss.loss;
    r.aux_loss = logged ? state_.running_aux / steps : loss.aux;
    r.lr = loss.lr;
    r.grad_norm = loss.grad_norm;
    r.tokens_per_second = static_cast<double>(log_tokens_) / std::max(1e-9, log_seconds_);
    const std::int64_t steps_here = state_.step - first_step_;
    r.eta_seconds =
        step_seconds_ / static_cast<double>(steps_here) * static_cast<double>(total_ - state_.step);
    r.total_tokens = state_.total_tokens;
    r.peak_memory_bytes = io::peak_rss();
    r.logged = logged;
    refresh_elapsed();
    if (logged) {
      state_.log_history.push_back({r.step, r.epoch, false, r.loss, r.aux_loss, r.lr, r.grad_norm});
      state_.running_loss = state_.running_aux = 0.0;
      state_.running_steps = 0;
      log_tokens_ = 0;
      log_seconds_ = 0.0;
      p_.log.write(r);
    }
    p_.observer.on_step(r);
  }

  void refresh_elapsed() {
    state_.elapsed_seconds = earlier_seconds_ + seconds_since(start_);
    last_.elapsed_seconds = state_.elapsed_seconds;
  }

  bool evaluate_now() {
    auto report = evaluate(
        p_.model, *p_.eval_data,
        [&](std::int64_t done, std::int64_t total) { p_.observer.on_evaluating(done, total); },
        p_.stop);
    if (!report) return false;
    report->step = state_.step;
    report->epoch = state_.epoch;
    refresh_elapsed();
    last_.total_steps = total_;
    last_.step = state_.step;
    last_.epoch = state_.epoch;
    last_.total_tokens = state_.total_tokens;
    state_.log_history.push_back({report->step, report->epoch, true, report->loss});
    p_.log.write(*report, last_);
    if (!result_.first_eval) result_.first_eval = report;
    result_.last_eval = report;
    p_.observer.on_evaluation(*report);
    return true;
  }

  void save() {
    refresh_elapsed();
    const SaveReport report = p_.saver.checkpoint(state_);
    saved_step_ = state_.step;
    result_.checkpoint = report.path;
    p_.saver.write_plot(state_);
    p_.observer.on_saved(report);
  }

  const LoopParts& p_;
  TrainerState& state_;
  const std::int64_t total_, warmup_;
  const double earlier_seconds_;
  const std::int64_t first_step_;
  std::int64_t saved_step_;
  const Clock::time_point start_ = Clock::now();
  double step_seconds_ = 0.0;  // in steps alone: evaluation and saving would spoil rate and ETA
  double log_seconds_ = 0.0, loss_sum_ = 0.0;
  std::int64_t log_tokens_ = 0;
  bool noted_inert_ = false;
  StepReport last_;
  TrainResult result_;
  StepProfile profile_;
};

}  // namespace

TrainResult run_loop(const LoopParts& parts, TrainerState& state) {
  return Loop(parts, state).run();
}

std::optional<EvalReport> evaluate(model::CausalLM& model,
                                   BatchSource& data,
                                   const std::function<void(std::int64_t, std::int64_t)>& progress,
                                   const StopToken& stop) {
  const auto start = Clock::now();
  EvalReport report;
  double sum = 0.0;
  const std::int64_t total = data.batches_in_epoch(0);
  for (std::int64_t i = 0; i < total; ++i) {
    if (stop.load(std::memory_order_relaxed)) return std::nullopt;
    const auto loss = model.evaluate(data.batch(0, i));
    sum += loss.sum;
    report.num_tokens += loss.num_tokens;
    progress(i + 1, total);
  }
  report.loss = sum / static_cast<double>(std::max<std::int64_t>(1, report.num_tokens));
  report.perplexity = std::exp(report.loss);
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace moesmith::train
