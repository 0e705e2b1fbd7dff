// SPDX-License-Identifier: Apache-2.0
#include "train/saved_model.h"

#include <cstring>
#include <filesystem>
#include <vector>

#include "core/text.h"
#include "io/adapter.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "io/system_memory.h"
#include "moesmith/error.h"
#include "train/model_card.h"
#include "train/probe.h"

namespace moesmith::train {
namespace {

void save_weights(const std::string& folder, const model::CausalLM& model) {
  const std::vector<model::DiskTensor> tensors = model.disk_tensors();
  std::vector<io::TensorSpec> specs;
  for (const model::DiskTensor& tensor : tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  io::CheckpointWriter writer(folder, specs);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    writer.write(tensors[i].name, model.disk_tensor(i, false));
  }
  writer.finish();
}

// Weights drawn anew have the compute dtype, whatever config.json said of those it came with.
void state_dtype(const std::string& folder, DType dtype) {
  io::JsonFile config = io::read_json(folder + "/config.json");
  const char* key = config.root().has("dtype") ? "dtype" : "torch_dtype";
  config.value.set(key, dtype == DType::kBF16 ? "bfloat16" : "float32");
  io::write_file(folder + "/config.json", config.value.dump({.indent = 2}) + "\n");
}

void save_adapter(const std::string& folder,
                  const TrainJob& job,
                  const TrainerState& state,
                  const model::CausalLM& model) {
  io::AdapterConfig config = model.adapter_config();
  config.base_model_name_or_path = job.train.base_model;
  io::write_adapter(folder, config, model.adapter_tensors());
  io::write_adapter_card(folder, {.base_model = job.train.base_model,
                                  .datasets = dataset_names(job),
                                  .body = model_card_body(job, state)});
}

[[noreturn]] void differs(const std::string& folder, const std::string& name) {
  throw Error(ErrorCode::kIo,
              str(folder, ": read back, ", name, " is not the tensor that was saved"));
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 ||
          std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())) == 0);
}

std::string compare_tensors(const std::string& folder,
                            const TrainJob& job,
                            model::CausalLM& model) {
  if (job.lora.enabled) {
    const auto file = io::SafetensorsFile::open(folder + "/adapter_model.safetensors");
    for (const auto& [name, value] : model.adapter_tensors()) {
      if (!same_bytes(file.tensor(name), value)) differs(folder, name);
    }
  } else {
    const io::Checkpoint saved = io::Checkpoint::open(folder);
    const std::vector<model::DiskTensor> tensors = model.disk_tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!same_bytes(saved.tensor(tensors[i].name), model.disk_tensor(i, false))) {
        differs(folder, tensors[i].name);
      }
    }
  }
  return "tensors bitwise equal (no memory for a second model to compare logits)";
}

}  // namespace

model::LoadRequest load_request(const TrainJob& job, const BaseModel& base) {
  return {.folder = base.folder,
          .model = job.model,
          .lora = job.lora,
          .mode = job.lora.enabled ? model::TrainMode::kAdapter : model::TrainMode::kAllWeights,
          .reinit = job.train.reinit_weights,
          .seed = static_cast<std::uint64_t>(job.train.seed)};
}

void save_model(const std::string& folder,
                const TrainJob& job,
                const BaseModel& base,
                const TrainerState& state,
                model::CausalLM& model) {
  io::copy_model_files(base.folder, folder);
  if (base.tokenizer_folder != base.folder) {
    io::copy_model_files(base.tokenizer_folder, folder, false);
  }
  if (!base.chat_template.empty()) {
    io::write_file(folder + "/chat_template.jinja", base.chat_template);
  }
  if (job.lora.enabled) {
    save_adapter(folder, job, state, model);
    return;
  }
  save_weights(folder, model);
  if (job.train.reinit_weights) state_dtype(folder, model.compute_dtype());
  io::write_file(folder + "/README.md", model_card_body(job, state));
}

std::string verify_saved(const std::string& folder,
                         const TrainJob& job,
                         const BaseModel& base,
                         model::CausalLM& model,
                         ThreadPool& pool) {
  model::LoadRequest request = load_request(job, base);
  request.mode = model::TrainMode::kNothing;
  request.model.compute_dtype =
      model.compute_dtype() == DType::kF32 ? model::ComputeDType::kF32 : model::ComputeDType::kBF16;
  if (job.lora.enabled) {
    request.lora.lora_model_dir = folder;
  } else {
    request.folder = folder;
    request.reinit = false;
  }
  const model::Batch batch = probe_batch(model.vocab_size());
  const model::MemoryEstimate need = model::estimate_memory(
      request, static_cast<std::int64_t>(batch.input_ids.size()), pool.num_threads());
  const std::int64_t bytes = need.weights + need.packed + need.adapter + need.activations;
  if (bytes > io::system_memory().usable()) return compare_tensors(folder, job, model);
  model::CausalLM copy = model::CausalLM::load(request, pool);
  return check_logits(compare_logits(copy.logits(batch), model.logits(batch)),
                      model.compute_dtype(), folder);
}

}  // namespace moesmith::train
