// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint.h"

#include <array>
#include <filesystem>
#include <set>

#include "core/checked.h"
#include "core/text.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "/model.safetensors";
constexpr const char* kIndexFile = "/model.safetensors.index.json";

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// Shard names of the index, each once, with a check that they stay inside the folder.
std::set<std::string> shard_names(const JsonRef& weight_map) {
  if (!weight_map.value().is_object()) {
    weight_map.fail("got " + weight_map.value().describe() + ", expected an object");
  }
  std::set<std::string> names;
  const JsonObject& members = weight_map.value().as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::string& file = weight_map.at(members.key(i)).as_string();
    if (file.empty() || file.find('/') != file.npos || file[0] == '.') {
      weight_map.at(members.key(i))
          .fail("got " + Json(file).describe() + ", expected the name of a file beside the index");
    }
    names.insert(file);
  }
  return names;
}

[[noreturn]] void no_weights(const std::string& folder) {
  for (const char* pickle : {"/pytorch_model.bin", "/pytorch_model.bin.index.json"}) {
    if (is_file(folder + pickle)) {
      throw Error(ErrorCode::kUnsupported,
                  folder + pickle +
                      ": pickled weights are not read, expected model.safetensors; convert them "
                      "with save_pretrained(safe_serialization=True)");
    }
  }
  throw Error(ErrorCode::kNotFound, folder + ": has no weights, expected model.safetensors or " +
                                        "model.safetensors.index.json");
}

std::string shard_file(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  const auto padded = [](std::size_t value) {
    std::string digits = std::to_string(value);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return "model-" + padded(number) + "-of-" + padded(count) + ".safetensors";
}

}  // namespace

bool Checkpoint::has_weights(const std::string& folder) {
  return is_file(folder + kSingleFile) || is_file(folder + kIndexFile);
}

Checkpoint Checkpoint::open(const std::string& folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.config_ = std::make_shared<const JsonFile>(read_json(folder + "/config.json"));
  if (is_file(folder + kSingleFile)) {
    checkpoint.add_file(folder + kSingleFile);
  } else if (is_file(folder + kIndexFile)) {
    checkpoint.add_shards(folder + kIndexFile);
  } else {
    no_weights(folder);
  }
  return checkpoint;
}

void Checkpoint::add_file(const std::string& path) {
  const std::size_t number = files_.size();
  files_.push_back(SafetensorsFile::open(path));
  for (const TensorInfo& info : files_.back().tensors()) {
    const auto [found, added] = where_.emplace(info.name, Place{number, &info});
    if (!added) {
      throw Error(ErrorCode::kInvalidInput, path + ": " + info.name + ": is in " +
                                                files_[found->second.file].path() +
                                                " too, expected each tensor once");
    }
    weight_bytes_ += info.end - info.begin;
  }
}

void Checkpoint::add_shards(const std::string& index_path) {
  const JsonFile index = read_json(index_path);
  const JsonRef weight_map = index.root().at("weight_map");
  for (const std::string& name : shard_names(weight_map)) {
    const std::string path = folder_ + "/" + name;
    if (!is_file(path)) {
      throw Error(ErrorCode::kNotFound, path + ": this shard is named by " + index_path +
                                            " but is not there; is the download complete?");
    }
    add_file(path);
  }
  const JsonObject& members = weight_map.value().as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::string& tensor = members.key(i);
    const std::string expected = folder_ + "/" + members.value(i).as_string();
    const auto found = where_.find(tensor);
    if (found == where_.end()) {
      throw Error(
          ErrorCode::kInvalidInput,
          expected + ": " + tensor + ": is not in this file, though " + index_path + " says so");
    }
    if (files_[found->second.file].path() != expected) {
      throw Error(ErrorCode::kInvalidInput, index_path + ": " + tensor + ": got file " +
                                                members.value(i).as_string() + ", but it lies in " +
                                                files_[found->second.file].path());
    }
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(where_.size());
  for (const auto& entry : where_) names.push_back(entry.first);
  return names;
}

const Checkpoint::Place& Checkpoint::place(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end()) {
    const std::string near = nearest(name, names());
    throw Error(ErrorCode::kNotFound, folder_ + ": there is no tensor " + std::string(name) +
                                          (near.empty() ? "" : "; the nearest name is " + near));
  }
  return found->second;
}

const TensorInfo& Checkpoint::info(std::string_view name) const { return *place(name).info; }

const std::string& Checkpoint::file_of(std::string_view name) const {
  return files_[place(name).file].path();
}

Tensor Checkpoint::tensor(std::string_view name) const {
  const Place& where = place(name);
  return files_[where.file].tensor(*where.info);
}

void Checkpoint::dont_need(std::string_view name) const {
  const Place& where = place(name);
  files_[where.file].dont_need(*where.info);
}

Tensor Checkpoint::tensor(std::string_view name, const Shape& expected) const {
  const Place& where = place(name);
  if (where.info->shape != expected) {
    throw Error(ErrorCode::kInvalidInput,
                str(files_[where.file].path(), ": ", name, ": got shape ",
                    to_string(where.info->shape), ", expected ", to_string(expected)));
  }
  return files_[where.file].tensor(*where.info);
}

CheckpointWriter::CheckpointWriter(std::string folder,
                                   const std::vector<TensorSpec>& tensors,
                                   std::int64_t max_shard_bytes)
    : folder_(std::move(folder)) {
  make_directories(folder_);
  for (const TensorSpec& spec : tensors) {
    const std::int64_t bytes = checked_mul(numel(spec.shape), dtype_size(spec.dtype));
    if (shards_.empty() || (shards_.back().bytes > 0 && bytes > 0 &&
                            checked_add(shards_.back().bytes, bytes) > max_shard_bytes)) {
      shards_.emplace_back();
    }
    if (!shard_of_.emplace(spec.name, shards_.size() - 1).second) {
      throw Error(ErrorCode::kInternal, folder_ + ": " + spec.name + ": is given twice");
    }
    shards_.back().specs.push_back(spec);
    shards_.back().bytes += bytes;
    num_parameters_ += numel(spec.shape);
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].file = shard_file(i + 1, shards_.size());
  }
}

template <class Write>
void CheckpointWriter::with_shard(std::string_view name, std::int64_t bytes, Write write) {
  const auto found = shard_of_.find(name);
  if (found == shard_of_.end()) {
    throw Error(ErrorCode::kInternal, folder_ + ": " + std::string(name) + ": was not announced");
  }
  if (bytes == 0) return;  // its shard may be complete, and closed, without it
  Shard& shard = shards_[found->second];
  if (shard.done) {
    throw Error(ErrorCode::kInternal, folder_ + ": " + std::string(name) + ": is written twice");
  }
  if (!shard.writer) {
    shard.writer = std::make_unique<SafetensorsWriter>(folder_ + "/" + shard.file, shard.specs);
  }
  write(*shard.writer);
  shard.written += bytes;
  if (shard.written == shard.bytes) {
    shard.writer->finish();
    shard.writer.reset();
    shard.done = true;
  }
}

void CheckpointWriter::write(std::string_view name, const Tensor& tensor) {
  with_shard(name, tensor.bytes(), [&](SafetensorsWriter& writer) { writer.write(name, tensor); });
}

void CheckpointWriter::write_rows(std::string_view name, std::int64_t first, const Tensor& rows) {
  with_shard(name, rows.bytes(),
             [&](SafetensorsWriter& writer) { writer.write_rows(name, first, rows); });
}

void CheckpointWriter::finish() {
  std::int64_t total = 0;
  Json weight_map = Json::object();
  for (Shard& shard : shards_) {
    if (!shard.done) {
      if (!shard.writer) {
        shard.writer = std::make_unique<SafetensorsWriter>(folder_ + "/" + shard.file, shard.specs);
      }
      shard.writer->finish();
      shard.writer.reset();
      shard.done = true;
    }
    total += shard.bytes;
    for (const TensorSpec& spec : shard.specs) weight_map.set(spec.name, shard.file);
  }
  if (shards_.size() < 2) return;
  Json metadata = Json::object();
  metadata.set("total_parameters", num_parameters_);
  metadata.set("total_size", total);
  Json index = Json::object();
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(weight_map));
  write_file(folder_ + kIndexFile, index.dump({.indent = 2, .sort_keys = true}) + "\n");
}

std::vector<std::string> copy_model_files(const std::string& from,
                                          const std::string& to,
                                          bool with_config) {
  constexpr std::array kConfigs = {"config.json", "generation_config.json"};
  constexpr std::array kTokenizer = {"tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "chat_template.jinja",
                                     "chat_template.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "tokenizer.model"};
  std::vector<std::string> copied;
  const auto copy = [&](const char* name) {
    if (!is_file(from + "/" + name)) return;
    copy_file(from + "/" + name, to + "/" + name);
    copied.emplace_back(name);
  };
  make_directories(to);
  if (with_config) {
    for (const char* name : kConfigs) copy(name);
  }
  for (const char* name : kTokenizer) copy(name);
  return copied;
}

}  // namespace moesmith::io
