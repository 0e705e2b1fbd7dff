// SPDX-License-Identifier: Apache-2.0
#include "train/trainer_state.h"

#include <cstring>
#include <fstream>
#include <vector>

#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

using io::Json;
using io::JsonRef;

constexpr std::int64_t kFormat = 1;

Json object(std::initializer_list<std::pair<const char*, Json>> members) {
  Json json = Json::object();
  for (const auto& [name, value] : members) json.set(name, value);
  return json;
}

Json history_to_json(const std::vector<LogEntry>& history) {
  Json list = Json::array();
  for (const LogEntry& entry : history) {
    Json item = object({{"epoch", entry.epoch}});
    if (entry.evaluation) {
      item.set("eval_loss", entry.loss);
    } else {
      item.set("grad_norm", entry.grad_norm);
      item.set("learning_rate", entry.lr);
      item.set("loss", entry.loss);
      if (entry.aux_loss != 0.0) item.set("aux_loss", entry.aux_loss);
    }
    item.set("step", entry.step);
    list.push_back(std::move(item));
  }
  return list;
}

LogEntry history_entry(const JsonRef& item) {
  LogEntry entry;
  entry.step = item.at("step").as_integer();
  entry.epoch = item.at("epoch").as_number();
  entry.evaluation = item.has("eval_loss");
  entry.loss = item.at(entry.evaluation ? "eval_loss" : "loss").as_number();
  if (!entry.evaluation) {
    entry.grad_norm = item.at("grad_norm").as_number();
    entry.lr = item.at("learning_rate").as_number();
    entry.aux_loss = item.get_number("aux_loss", 0.0);
  }
  return entry;
}

Json own_to_json(const TrainerState& s) {
  Json settings = Json::object();
  for (const auto& [name, value] : s.settings) settings.set(name, value);
  Json files = Json::object();
  for (const auto& [name, file] : s.files) {
    files.set(name, object({{"bytes", file.bytes}, {"hash", file.hash}}));
  }
  return object({{"format", kFormat},
                 {"isa", s.isa},
                 {"num_threads", s.num_threads},
                 {"micro_batches", s.micro_batches},
                 {"trained_tokens", s.trained_tokens},
                 {"elapsed_seconds", s.elapsed_seconds},
                 {"log_bytes", s.log_bytes},
                 {"running_loss", s.running_loss},
                 {"running_aux", s.running_aux},
                 {"running_steps", s.running_steps},
                 {"has_optimizer", s.has_optimizer},
                 {"probe_loss", s.probe_loss},
                 {"settings", std::move(settings)},
                 {"files", std::move(files)}});
}

void own_from_json(const JsonRef& own, TrainerState& s) {
  s.isa = own.at("isa").as_string();
  s.num_threads = static_cast<int>(own.at("num_threads").as_integer());
  s.micro_batches = own.at("micro_batches").as_integer();
  s.trained_tokens = own.at("trained_tokens").as_integer();
  s.elapsed_seconds = own.at("elapsed_seconds").as_number();
  s.log_bytes = own.at("log_bytes").as_integer();
  s.running_loss = own.at("running_loss").as_number();
  s.running_aux = own.at("running_aux").as_number();
  s.running_steps = own.at("running_steps").as_integer();
  s.has_optimizer = own.at("has_optimizer").as_bool();
  s.probe_loss = own.at("probe_loss").as_number();
  const io::JsonObject& settings = own.at("settings").value().as_object();
  for (std::size_t i = 0; i < settings.size(); ++i) {
    s.settings.emplace_back(settings.key(i), settings.value(i).as_string());
  }
  const JsonRef files = own.at("files");
  const io::JsonObject& listed = files.value().as_object();
  for (std::size_t i = 0; i < listed.size(); ++i) {
    const JsonRef file = files.at(listed.key(i));
    s.files[listed.key(i)] = {file.at("bytes").as_integer(), file.at("hash").as_integer()};
  }
}

}  // namespace

std::string to_json(const TrainerState& s) {
  const Json json = object({{"best_metric", nullptr},
                            {"best_model_checkpoint", nullptr},
                            {"epoch", s.epoch},
                            {"eval_steps", s.eval_steps},
                            {"global_step", s.step},
                            {"is_hyper_param_search", false},
                            {"is_local_process_zero", true},
                            {"is_world_process_zero", true},
                            {"log_history", history_to_json(s.log_history)},
                            {"logging_steps", s.logging_steps},
                            {"max_steps", s.total_steps},
                            {"num_input_tokens_seen", s.total_tokens},
                            {"num_train_epochs", s.num_epochs},
                            {"save_steps", s.save_steps},
                            {"stateful_callbacks", Json::object()},
                            {"total_flos", 0},
                            {"train_batch_size", s.micro_batch_size},
                            {"trial_name", nullptr},
                            {"trial_params", nullptr},
                            {"moesmith", own_to_json(s)}});
  return json.dump({.indent = 2}) + "\n";
}

TrainerState parse_trainer_state(const std::string& text, const std::string& where) {
  const Json json = Json::parse(text, where);
  const JsonRef root(json, where);
  if (!root.has("moesmith")) {
    root.fail("no \"moesmith\" object, expected a checkpoint that moesmith wrote");
  }
  const JsonRef own = root.at("moesmith");
  const std::int64_t format = own.at("format").as_integer();
  if (format != kFormat) {
    own.fail(str("checkpoint format, got ", format, ", expected ", kFormat));
  }
  TrainerState s;
  s.step = root.at("global_step").as_integer();
  s.epoch = root.at("epoch").as_number();
  s.total_steps = root.at("max_steps").as_integer();
  s.num_epochs = root.at("num_train_epochs").as_number();
  s.logging_steps = root.at("logging_steps").as_integer();
  s.eval_steps = root.at("eval_steps").as_integer();
  s.save_steps = root.at("save_steps").as_integer();
  s.micro_batch_size = root.at("train_batch_size").as_integer();
  s.total_tokens = root.at("num_input_tokens_seen").as_integer();
  const JsonRef history = root.at("log_history");
  for (std::size_t i = 0; i < history.size(); ++i) {
    s.log_history.push_back(history_entry(history.at(i)));
  }
  own_from_json(own, s);
  return s;
}

std::int64_t content_hash(const void* data, std::size_t bytes) {
  // Four lanes, so that the multiplications overlap; constants of xxHash64.
  constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu;
  std::uint64_t lanes[4] = {kPrime1, kPrime2, ~kPrime1, ~kPrime2};
  const char* at = static_cast<const char*>(data);
  std::size_t left = bytes;
  const auto mix = [](std::uint64_t lane, std::uint64_t word) {
    lane += word * kPrime2;
    return ((lane << 31) | (lane >> 33)) * kPrime1;
  };
  for (; left >= 32; left -= 32, at += 32) {
    std::uint64_t words[4];
    std::memcpy(words, at, 32);
    for (int i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  std::uint64_t words[4] = {};
  if (left > 0) std::memcpy(words, at, left);
  std::uint64_t hash = bytes;
  for (int i = 0; i < 4; ++i) hash = mix(hash, mix(lanes[i], words[i]));
  return static_cast<std::int64_t>(hash ^ (hash >> 29));
}

std::int64_t file_hash(const std::string& path) {
  constexpr std::size_t kChunk = 1 << 20;
  std::ifstream in(path, std::ios::binary);
  std::vector<char> chunk(kChunk);
  std::int64_t hash = 0;
  while (in) {
    in.read(chunk.data(), kChunk);
    const std::int64_t pair[2] = {
        hash, content_hash(chunk.data(), static_cast<std::size_t>(in.gcount()))};
    hash = content_hash(pair, sizeof pair);
  }
  if (!in.eof()) throw Error(ErrorCode::kIo, path + ": cannot read");
  return hash;
}

}  // namespace moesmith::train
