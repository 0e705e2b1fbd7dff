// SPDX-License-Identifier: Apache-2.0
// What a checkpoint knows besides tensors: trainer_state.json with transformers' keys, and under
// "moesmith" all that a bitwise continuation needs. Random numbers need no state: they are
// functions of the seed and of counts that are in here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace moesmith::train {

// One entry of log_history: a logged step, or an evaluation.
struct LogEntry {
  std::int64_t step = 0;
  double epoch = 0.0;
  bool evaluation = false;
  double loss = 0.0;
  double aux_loss = 0.0, lr = 0.0, grad_norm = 0.0;  // of a logged step
};

struct FileRecord {
  std::int64_t bytes = 0;
  std::int64_t hash = 0;  // content_hash()
};

struct TrainerState {
  std::int64_t step = 0;  // steps done; with the timeline it gives the place in the data
  double epoch = 0.0;
  std::int64_t total_steps = 0;
  double num_epochs = 0.0;
  std::int64_t logging_steps = 0, eval_steps = 0, save_steps = 0, micro_batch_size = 0;
  std::vector<LogEntry> log_history;

  std::int64_t micro_batches = 0;   // seen so far
  std::int64_t total_tokens = 0;    // input tokens seen so far
  std::int64_t trained_tokens = 0;  // tokens with a label seen so far
  double elapsed_seconds = 0.0;
  std::int64_t log_bytes = 0;  // length of trainer_log.jsonl
  // Sums since the last logged step.
  double running_loss = 0.0, running_aux = 0.0;
  std::int64_t running_steps = 0;

  // What continuing needs to find unchanged: setting -> value, in the order they are compared.
  std::vector<std::pair<std::string, std::string>> settings;
  bool has_optimizer = true;  // false under save_only_model
  std::string isa;
  int num_threads = 0;
  double probe_loss = 0.0;                  // of the fixed probe batch, mean per token
  std::map<std::string, FileRecord> files;  // every other file of the folder
};

std::string to_json(const TrainerState& state);
// Throws Error(kInvalidInput) for anything that to_json() did not write; `where` names the file.
TrainerState parse_trainer_state(const std::string& text, const std::string& where);

// Not cryptographic; finds truncation and flipped bits.
std::int64_t content_hash(const void* data, std::size_t bytes);
// Of a whole file, read in chunks. Throws Error(kIo).
std::int64_t file_hash(const std::string& path);

}  // namespace moesmith::train
