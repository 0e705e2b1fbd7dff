// SPDX-License-Identifier: Apache-2.0
// A model folder in Hugging Face layout: config.json, and model.safetensors or shards with
// model.safetensors.index.json. Finding it (path or hub id in the local cache), reading tensors by
// name whatever file they lie in, and writing the same layout.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "moesmith/tensor.h"

namespace moesmith::io {

// The folder of a model named by a path or by a hub id such as Qwen/Qwen3-30B-A3B. An id is looked
// up in the local cache only (HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub) at
// `revision` (branch, tag or commit; empty is main). Error(kNotFound) says where it looked and the
// command that downloads it.
std::string resolve_model(const std::string& name_or_path, const std::string& revision = "");

// The weights of a model folder. Opening reads every header and checks index against shards; data
// is only mapped. All defects of the files are Error(kInvalidInput) or Error(kNotFound).
class Checkpoint {
 public:
  static Checkpoint open(const std::string& folder);
  // Whether the folder has weights at all (a config.json alone is enough to start from scratch).
  static bool has_weights(const std::string& folder);

  const std::string& folder() const noexcept { return folder_; }
  const JsonFile& config() const noexcept { return *config_; }  // config.json
  std::vector<std::string> names() const;                       // sorted
  bool contains(std::string_view name) const noexcept { return where_.find(name) != where_.end(); }
  // Error(kNotFound) names the nearest tensor that exists.
  const TensorInfo& info(std::string_view name) const;
  const std::string& file_of(std::string_view name) const;
  Tensor tensor(std::string_view name) const;   // as SafetensorsFile::tensor
  void dont_need(std::string_view name) const;  // as SafetensorsFile::dont_need
  // Checks the shape: Error(kInvalidInput) "<file>: <tensor>: got shape [..], expected [..]".
  Tensor tensor(std::string_view name, const Shape& expected) const;
  const std::vector<SafetensorsFile>& files() const noexcept { return files_; }
  std::int64_t weight_bytes() const noexcept { return weight_bytes_; }

 private:
  struct Place {
    std::size_t file;
    const TensorInfo* info;
  };
  const Place& place(std::string_view name) const;
  void add_file(const std::string& path);
  void add_shards(const std::string& index_path);

  std::string folder_;
  std::shared_ptr<const JsonFile> config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place, std::less<>> where_;
  std::int64_t weight_bytes_ = 0;
};

// Writes weights as transformers does: one model.safetensors when all fit max_shard_bytes, else
// model-00001-of-0000N.safetensors in the order of `tensors` and the index. Each file is atomic;
// the index comes last. Give it an AtomicDirectory's folder to have them appear together.
class CheckpointWriter {
 public:
  CheckpointWriter(std::string folder,
                   const std::vector<TensorSpec>& tensors,
                   std::int64_t max_shard_bytes = std::int64_t{5'000'000'000});

  // In any order; at best in that of `tensors`, as each shard is a file kept open until complete.
  void write(std::string_view name, const Tensor& tensor);
  void write_rows(std::string_view name, std::int64_t first, const Tensor& rows);
  void finish();
  std::size_t num_shards() const noexcept { return shards_.size(); }

 private:
  struct Shard {
    std::string file;
    std::vector<TensorSpec> specs;
    std::unique_ptr<SafetensorsWriter> writer;  // made at the first write, gone when complete
    std::int64_t bytes = 0;
    std::int64_t written = 0;
    bool done = false;
  };
  template <class Write>
  void with_shard(std::string_view name, std::int64_t bytes, Write write);

  std::string folder_;
  std::vector<Shard> shards_;
  std::map<std::string, std::size_t, std::less<>> shard_of_;
  std::int64_t num_parameters_ = 0;
};

// Copies what a model folder has besides weights (config, generation config, tokenizer, chat
// template); returns the names that were copied. `with_config` false leaves the two configs out.
std::vector<std::string> copy_model_files(const std::string& from,
                                          const std::string& to,
                                          bool with_config = true);

}  // namespace moesmith::io
