// SPDX-License-Identifier: Apache-2.0
// Rendering of a training run's events.
#include "cli/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "cli/tables.h"
#include "cli/terminal.h"
#include "core/text.h"

namespace moesmith::cli {
namespace {

// More often only flickers.
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

std::string fixed(double value, int digits) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
  return buffer.data();
}

std::string percent(double share) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%.3g %%", 100 * share);
  return buffer.data();
}

std::string scientific(double value) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%.2e", value);
  return buffer.data();
}

std::string rate_text(double tokens_per_second) {
  return count_text(std::llround(std::max(0.0, tokens_per_second))) + " tok/s";
}

std::string bar(std::int64_t done, std::int64_t total, int width) {
  const double share =
      total > 0 ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total)) : 0.0;
  const auto full = static_cast<std::size_t>(share * width);
  return "[" + std::string(full, '#') + std::string(static_cast<std::size_t>(width) - full, '-') +
         "]";
}

void print_lines(const std::vector<std::string>& lines) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    print_line(i == 0 ? bold(lines[i]) : lines[i]);
  }
}

// The text under its prompt, indented so that it stands apart from the program's own lines.
void print_sample(std::string_view title, const std::string& prompt, const std::string& text) {
  print_line(bold(title));
  const std::string whole =
      harmless(prompt + (text.empty() ? "(nothing: the model ended its answer at once)" : text));
  std::size_t begin = 0;
  while (begin <= whole.size()) {
    const std::size_t end = std::min(whole.find('\n', begin), whole.size());
    print_line("    " + whole.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) {
    return "-:--";
  }
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const auto two = [](std::int64_t n) { return str(n < 10 ? "0" : "", n); };
  if (whole >= 3600) {
    return str(whole / 3600, ":", two(whole / 60 % 60), ":", two(whole % 60));
  }
  return str(whole / 60, ":", two(whole % 60));
}

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(count);
  const std::size_t sign = count < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > sign + 3; i -= 3) {
    digits.insert(i - 3, ",");
  }
  return digits;
}

std::string status_text(const train::StepReport& report, int width) {
  const std::string left = str("step ", report.step, "/", report.total_steps, " ");
  const std::string right =
      str(" loss ", fixed(report.loss, 4), "  lr ", scientific(report.lr), "  ",
          rate_text(report.tokens_per_second), "  ETA ", duration_text(report.eta_seconds));
  const int room = width - 1 - columns(left) - columns(right) - 2;
  const int bar_width = std::clamp(room, 0, 40);
  return left + (bar_width >= 4 ? bar(report.step, report.total_steps, bar_width) : "") + right;
}

std::string step_line(const train::StepReport& report) {
  return str("step ", report.step, "/", report.total_steps, "  epoch ", fixed(report.epoch, 2),
             "  loss ", fixed(report.loss, 4),
             report.aux_loss != 0 ? str("  aux_loss ", fixed(report.aux_loss, 4)) : "",
             "  grad_norm ", fixed(report.grad_norm, 3), "  lr ", scientific(report.lr), "  ",
             rate_text(report.tokens_per_second), "  ETA ", duration_text(report.eta_seconds));
}

void TrainProgress::on_memory_plan(const train::MemoryPlan& plan) {
  print_lines(memory_table(plan));
}

void TrainProgress::on_start(const train::RunStart& start) {
  print_lines(trained_table(start.trained));
  const auto total = static_cast<double>(std::max<std::int64_t>(start.total_count, 1));
  print_line(str("trains ", count_text(start.trainable_count), " of ",
                 count_text(start.total_count), " parameters (",
                 percent(static_cast<double>(start.trainable_count) / total), ")"));
  print_line(str("data: ", count_text(start.train_samples), " samples, ",
                 count_text(start.train_tokens), " tokens of which ",
                 count_text(start.trained_tokens), " are trained; ", count_text(start.eval_samples),
                 " held out"));
  print_line(str("experts: ", start.experts_plan));
  print_line(str(start.total_steps, " steps (", fixed(start.num_epochs, 2), " epochs, ",
                 start.warmup_steps, " of warm-up) on ", start.num_threads,
                 start.num_threads == 1 ? " thread" : " threads"));
  if (!start.resumed_from.empty()) {
    print_line(str("goes on from ", start.resumed_from, " after ", start.first_step, " steps"));
  }
}

void TrainProgress::on_step(const train::StepReport& report) {
  last_ = report;
  const auto now = std::chrono::steady_clock::now();
  if (now - drawn_ >= kRedrawInterval || report.step == report.total_steps) {
    drawn_ = now;
    set_status(status_text(report, terminal_width()));
  }
  if (report.logged && !(can_draw() && stdout_is_terminal())) {
    print_line(step_line(report));
  }
}

void TrainProgress::on_evaluating(std::int64_t done, std::int64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (now - drawn_ >= kRedrawInterval) {
    drawn_ = now;
    set_status(str("evaluating ", bar(done, total, 30), " ", done, "/", total));
  }
}

void TrainProgress::on_evaluation(const train::EvalReport& report) {
  set_status("");
  print_line(str("held-out loss after step ", report.step, ": ", fixed(report.loss, 4),
                 " (perplexity ", fixed(report.perplexity, 2), ", ", count_text(report.num_tokens),
                 " tokens, ", fixed(report.seconds, 1), " s)"));
  set_status(last_ ? status_text(*last_, terminal_width()) : "");
}

void TrainProgress::on_saved(const train::SaveReport& report) {
  print_line(str("saved ", report.path, " (", human_bytes(static_cast<double>(report.bytes)),
                 report.verification.empty() ? "" : ", ", report.verification, ")"));
}

void TrainProgress::on_sample(const train::SampleReport& report) {
  if (!report.trained) {
    samples_before_[report.prompt] = report.text;
    print_sample("sample before training:", report.prompt, report.text);
  } else {
    print_sample("sample after training:", report.prompt, report.text);
  }
}

void TrainProgress::on_note(const std::string& note) { print_note(note); }

void TrainProgress::finish(const train::TrainResult& result, const std::string& run, bool adapter) {
  set_status("");
  print_line("");
  const bool whole = result.outcome == train::TrainOutcome::kFinished;
  if (!result.profile.empty()) {
    print_lines(profile_table(result.profile, result.profiled_steps));
    print_line("");
  }
  print_line(bold(str(whole ? "done" : "stopped", " after ", result.steps, " steps in ",
                      duration_text(result.seconds))));
  if (result.first_eval && result.last_eval && result.first_eval->step != result.last_eval->step) {
    print_line(str("held-out loss: ", fixed(result.first_eval->loss, 4), " -> ",
                   fixed(result.last_eval->loss, 4)));
  }
  print_line(str("training loss: ", fixed(result.train_loss, 4), " (mean of this run's steps)"));
  if (!result.plot.empty()) {
    print_line(str("loss plot:     ", result.plot));
  }
  print_line(str(adapter ? "adapter:       " : "weights:       ", result.output_dir));
  if (!whole) {
    print_line(str("go on with:    moesmith train ", run, " --resume-from-checkpoint ",
                   result.checkpoint.empty() ? "true" : result.checkpoint));
    return;
  }
  print_line(str("try it with:   moesmith inference ", run, " --prompt \"...\""));
  if (adapter) {
    print_line(str("merge it with: moesmith merge-lora ", run));
  }
}

}  // namespace moesmith::cli
