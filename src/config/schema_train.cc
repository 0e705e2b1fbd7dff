// SPDX-License-Identifier: Apache-2.0
// Schema: batch, optimiser and schedule, evaluation and saving.
#include "config/schema.h"

namespace moesmith::config {
namespace {

using K = Keys<Config>;
using train::Interval;
using train::LrSchedule;

constexpr Range kFromOne{1.0, {}, false, false};
constexpr Range kFromZero{0.0, {}, false, false};
constexpr Range kAboveZero{0.0, {}, true, false};
constexpr Range kShare{0.0, 1.0, false, false};
constexpr Range kBeta{0.0, 1.0, false, true};

}  // namespace

Section batch_section() {
  return {
      "Batch and length of the run",
      {
          K::integer(
              "micro_batch_size", MOESMITH_AT(Config, train.micro_batch_size), kFromOne,
              "Samples computed at once; with sample_packing, units of sequence_len tokens."),
          K::integer(
              "gradient_accumulation_steps", MOESMITH_AT(Config, train.gradient_accumulation_steps),
              kFromOne,
              "Micro-batches per step. The loss is the mean over all trained tokens of the step."),
          K::integer("batch_size", MOESMITH_AT(Config, train.batch_size), kFromOne,
                     "micro_batch_size times gradient_accumulation_steps; give two of the three."),
          K::number("num_epochs", MOESMITH_AT(Config, train.num_epochs), kAboveZero,
                    "Passes over the data."),
          K::integer("max_steps", MOESMITH_AT(Config, train.max_steps), kFromOne,
                     "Steps; wins over num_epochs."),
      }};
}

Section optimizer_section() {
  return {
      "Optimiser and schedule",
      {
          required(K::number("learning_rate", MOESMITH_AT(Config, train.learning_rate), kAboveZero,
                             "Highest learning rate. Required for training.")),
          K::one_of(
              "optimizer", MOESMITH_AT(Config, surface.optimizer),
              {"adamw_torch_fused", "adamw_torch", "adamw_hf", "adamw_apex_fused",
               "adamw_torch_npu_fused", "adamw_torch_xla", "adamw_anyprecision", "adamw_bnb_8bit",
               "adamw_8bit", "adamw_torch_8bit", "adamw_torch_4bit", "adamw_torch_fp8",
               "paged_adamw_8bit", "paged_adamw_32bit", "paged_adamw"},
              "All are AdamW with f32 state here; the 8-bit and 4-bit names say so at the start."),
          K::choice<LrSchedule>(
              "lr_scheduler", MOESMITH_AT(Config, train.lr_scheduler),
              {{"cosine", LrSchedule::kCosine},
               {"linear", LrSchedule::kLinear},
               {"constant", LrSchedule::kConstant},
               {"constant_with_warmup", LrSchedule::kConstantWithWarmup}},
              "Course of the learning rate after the warm-up; constant has no warm-up."),
          K::number("cosine_min_lr_ratio", MOESMITH_AT(Config, train.cosine_min_lr_ratio), kShare,
                    "The cosine ends at this share of learning_rate."),
          K::integer("warmup_steps", MOESMITH_AT(Config, train.warmup_steps), kFromZero,
                     "Steps of linear warm-up. Without it and warmup_ratio: 3 % of all steps, at "
                     "most 100."),
          K::number("warmup_ratio", MOESMITH_AT(Config, train.warmup_ratio), kShare,
                    "Warm-up as share of all steps; not with warmup_steps."),
          K::number("weight_decay", MOESMITH_AT(Config, train.weight_decay), kFromZero,
                    "Decoupled decay; not on biases and norms."),
          K::number("adam_beta1", MOESMITH_AT(Config, train.adam_beta1), kBeta,
                    "Decay of the mean."),
          K::number("adam_beta2", MOESMITH_AT(Config, train.adam_beta2), kBeta,
                    "Decay of the variance."),
          K::number("adam_epsilon", MOESMITH_AT(Config, train.adam_epsilon), kAboveZero,
                    "Added to the root of the variance."),
          K::number("max_grad_norm", MOESMITH_AT(Config, train.max_grad_norm), kFromZero,
                    "Longer gradients are shortened to this norm; 0: never."),
      }};
}

Section save_section() {
  const std::vector<std::pair<std::string_view, Interval>> intervals = {
      {"no", Interval::kNo}, {"steps", Interval::kSteps}, {"epoch", Interval::kEpoch}};
  return {
      "Logging, evaluation, saving",
      {
          K::integer("logging_steps", MOESMITH_AT(Config, train.logging_steps), kFromOne,
                     "Steps between log lines; empty: 0.5 % of all steps, at least 1, at most 10."),
          K::choice<Interval>(
              "eval_strategy", MOESMITH_AT(Config, train.eval_strategy), intervals,
              "When held-out rows are evaluated; empty: steps when a number of steps is given, "
              "else each epoch."),
          K::number("eval_steps", MOESMITH_AT(Config, train.eval_steps), kAboveZero,
                    "Steps between evaluations; below 1: share of all steps."),
          K::integer("evals_per_epoch", MOESMITH_AT(Config, train.evals_per_epoch), kFromOne,
                     "Evaluations per epoch; not with eval_steps."),
          K::integer("eval_batch_size", MOESMITH_AT(Config, train.eval_batch_size), kFromOne,
                     "Samples evaluated at once; empty: micro_batch_size."),
          K::choice<Interval>(
              "save_strategy", MOESMITH_AT(Config, train.save_strategy), intervals,
              "When checkpoints are written; empty: steps when a number of steps is given, else "
              "each epoch."),
          K::number("save_steps", MOESMITH_AT(Config, train.save_steps), kAboveZero,
                    "Steps between checkpoints; below 1: share of all steps."),
          K::integer("saves_per_epoch", MOESMITH_AT(Config, train.saves_per_epoch), kFromOne,
                     "Checkpoints per epoch; not with save_steps."),
          K::integer("save_total_limit", MOESMITH_AT(Config, train.save_total_limit), kFromZero,
                     "Newest checkpoints that are kept; 0: all."),
          K::flag("save_first_step", MOESMITH_AT(Config, train.save_first_step),
                  "A checkpoint after the first step, to see that saving works."),
          K::flag("save_only_model", MOESMITH_AT(Config, train.save_only_model),
                  "Checkpoints without optimiser state; they cannot be resumed."),
          K::text("resume_from_checkpoint", MOESMITH_AT(Config, train.resume_from_checkpoint),
                  "A checkpoint-N folder to go on from; true: the newest one in output_dir."),
          K::flag("auto_resume_from_checkpoints",
                  MOESMITH_AT(Config, train.auto_resume_from_checkpoints),
                  "Go on from the newest checkpoint in output_dir, if there is one."),
          K::flag("plot_loss", MOESMITH_AT(Config, train.plot_loss), "Write training_loss.svg."),
          K::flag("profile", MOESMITH_AT(Config, train.profile),
                  "Print at the end where the time of a step went: experts, dense products, "
                  "attention, optimiser and the rest, with the rate of the products."),
      }};
}

}  // namespace moesmith::config
