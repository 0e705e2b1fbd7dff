// SPDX-License-Identifier: Apache-2.0
// A decoder-only Mixture-of-Experts language model with its adapter: loading, loss and gradients,
// logits, token-by-token decoding, and the tensors to be saved.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "io/adapter.h"
#include "io/safetensors.h"
#include "model/batch.h"
#include "model/options.h"
#include "model/parameter.h"
#include "moesmith/tensor.h"

namespace moesmith::model {

struct DecoderSpec;
class Decoder;
struct KvCache;

// What is trained. kAdapter needs LoraOptions::enabled.
enum class TrainMode { kNothing, kAdapter, kAllWeights };

struct LoadRequest {
  std::string folder;  // config.json, *.safetensors and their index
  ModelOptions model;
  // With `enabled`: an adapter is attached, read from lora_model_dir if that is set (A and B as
  // they are there), else started as peft_init_lora_weights says, from `seed`.
  LoraOptions lora;
  TrainMode mode = TrainMode::kNothing;
  // Weights from config.json alone: normal with its initializer_range, norms 1, biases 0, from
  // `seed`. No weight file is looked at.
  bool reinit = false;
  std::uint64_t seed = 42;
};

// Bytes that a request will hold, known from config.json and the headers of the weight files.
struct MemoryEstimate {
  std::int64_t weights_mapped = 0;  // used in place from the checkpoint; the system may drop them
  std::int64_t weights = 0;         // own storage: converted, trained or drawn weights
  std::int64_t packed = 0;          // compute-dtype copies of adapters and the like
  std::int64_t packed_experts = 0;  // of frozen experts, if they are packed; 0 with kNever
  std::int64_t adapter = 0;         // f32 values
  std::int64_t masters = 0;         // f32 masters of trained weights, where value is not f32
  std::int64_t gradients = 0;
  std::int64_t optimiser = 0;  // two f32 moments for each trained element
  std::int64_t activations = 0;
};
// max_tokens: of the largest micro-batch. Throws Error like CausalLM::load for what cannot be.
MemoryEstimate estimate_memory(const LoadRequest& request,
                               std::int64_t max_tokens,
                               int num_threads);

// Keys and values of the tokens seen so far, of one sequence.
class DecodeState {
 public:
  DecodeState();
  ~DecodeState();
  DecodeState(DecodeState&&) noexcept;
  DecodeState& operator=(DecodeState&&) noexcept;

  std::int64_t length() const noexcept;  // tokens held
  // Forgets all but the first `length` tokens.
  void truncate(std::int64_t length);

 private:
  friend class CausalLM;
  std::unique_ptr<KvCache> cache_;
};

// A tensor of the checkpoint's own spelling.
struct DiskTensor {
  std::string name;  // "model.layers.0.mlp.experts.3.gate_proj.weight"
  Shape shape;
  DType dtype;
};

class CausalLM {
 public:
  // `pool` must outlive the model. Throws Error: kNotFound, kInvalidInput (one error that names
  // file, tensor, found and expected), kUnsupported.
  static CausalLM load(const LoadRequest& request, ThreadPool& pool);
  ~CausalLM();
  CausalLM(CausalLM&&) noexcept;
  CausalLM& operator=(CausalLM&&) noexcept;

  const DecoderSpec& spec() const noexcept;
  std::int64_t vocab_size() const noexcept;
  std::int64_t max_position_embeddings() const noexcept;
  // router_aux_loss_coef where output_router_logits is on, else 0.
  double aux_loss_coef() const noexcept;
  DType compute_dtype() const noexcept;
  // Which experts implementation runs and why, a line or more.
  std::string experts_plan() const;

  // All weights, then all adapter tensors, in a fixed order. Pointers live as long as the model.
  std::vector<Parameter*> parameters();

  struct Loss {
    double sum = 0;               // cross entropy over the labelled tokens
    std::int64_t num_tokens = 0;  // labelled tokens
    double aux = 0;  // load-balancing loss of this batch, unscaled; 0 without output_router_logits
  };
  // Adds d(loss_scale * sum + aux_scale * aux)/dp to each trainable parameter's grad.
  Loss forward_backward(const Batch& batch, float loss_scale, float aux_scale);
  // No gradients, no dropout, never the full logits of a long batch.
  Loss evaluate(const Batch& batch);
  // [N, vocab] f32, without dropout.
  Tensor logits(const Batch& batch);

  // Dropout masks of the next forward_backward are a function of (seed, micro_batch) and the
  // element; call it before each micro-batch with a number that never repeats in a run.
  void set_dropout(std::uint64_t seed, std::uint64_t micro_batch);
  // After masters changed (optimiser, resume): value = cast(master), packed copies anew.
  void sync_values();

  // Appends `tokens` (at least one) to the state and returns the last one's logits, [vocab] f32.
  Tensor decode(DecodeState& state, std::span<const std::int32_t> tokens);

  // The adapter as PEFT saves it, for io::write_adapter: PEFT's keys with f32 values that share
  // storage with the parameters, and the configuration (base_model_name_or_path is left to the
  // caller). Without an adapter: empty, and Error(kInternal).
  std::vector<io::NamedTensor> adapter_tensors() const;
  const io::AdapterConfig& adapter_config() const;
  // Every tensor of the checkpoint in its own spelling and storage dtype (after reinit: the
  // family's spelling in the compute dtype), and the current value of one of them; with
  // merge_adapter W + scale * B A, summed in f32 and rounded once.
  std::vector<DiskTensor> disk_tensors() const;
  Tensor disk_tensor(std::size_t index, bool merge_adapter) const;

  // Names between the two spellings: the in-memory parameter that a disk tensor belongs to, "" when
  // it is none ("model.layers.0.mlp.experts.3.up_proj.weight" ->
  // "model.layers.0.mlp.experts.gate_up_proj"); and the disk tensors that a parameter consists of.
  std::string memory_name(std::string_view disk_name) const;
  std::vector<std::string> disk_names(std::string_view memory_name) const;

 private:
  explicit CausalLM(std::unique_ptr<Decoder> decoder);
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace moesmith::model
