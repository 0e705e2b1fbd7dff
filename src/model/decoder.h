// SPDX-License-Identifier: Apache-2.0
// The decoder as objects: weights, adapters, and layers that point at them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "io/adapter.h"
#include "kernels/rope/rope.h"
#include "model/causal_lm.h"
#include "model/decoder_layer.h"
#include "model/lora.h"
#include "model/loss_head.h"
#include "model/weights.h"

namespace moesmith::model {

struct KvCache {
  std::vector<Tensor> k, v;  // of each layer: [capacity, kv_width]
  std::int64_t capacity = 0, length = 0;
};

// Where a step's tokens stand, in any of the ways a decoder is run.
struct Tokens {
  std::span<const std::int32_t> ids, positions;
  std::vector<kernels::attention::Segment> segments;
  KvCache* cache = nullptr;
};

class Engine;

struct Decoder {
  DecoderSpec spec;
  DType compute = DType::kF32;
  TrainMode mode = TrainMode::kNothing;
  ThreadPool* pool = nullptr;
  bool checkpointing = false;
  std::optional<io::Checkpoint> checkpoint;  // unset after reinit
  std::deque<Weight> weights;
  std::optional<AdapterPlan> adapter;
  std::deque<Lora> loras;

  Parameter* embedding = nullptr;
  std::vector<DecoderLayer> layers;
  LossHead head;
  kernels::rope::Table rope;

  double dropout = 0;
  std::uint64_t dropout_seed = 0;
  std::unique_ptr<Engine> engine;

  ~Decoder();
  // Whether gradients must reach the input of layer `i`.
  bool need_input_grad(std::int64_t i) const;
  std::int64_t num_sparse_layers() const;
};

// Reads config.json and the weight files' headers, and lays everything out without values.
std::unique_ptr<Decoder> describe_decoder(const LoadRequest& request, bool report);
// Values for what describe_decoder() laid out.
void fill_decoder(Decoder& decoder, const LoadRequest& request, ThreadPool& pool);

// Points the layers at weights and adapters and plans the experts; values need not be there yet.
void assemble(Decoder& decoder, const ModelOptions& options);

// Runs a decoder in its compute dtype.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual CausalLM::Loss loss(const Tokens& tokens,
                              std::span<const std::int32_t> labels,
                              bool backward,
                              float loss_scale,
                              float aux_scale) = 0;
  // Logits of the last `count` tokens, [count, vocab].
  virtual Tensor logits(const Tokens& tokens, std::int64_t count) = 0;
};
std::unique_ptr<Engine> make_engine(Decoder& decoder, ThreadPool& pool);

// Bytes of activations of a step with n tokens.
std::int64_t activation_bytes(const Decoder& decoder,
                              std::int64_t n,
                              bool backward,
                              int num_threads);

}  // namespace moesmith::model
