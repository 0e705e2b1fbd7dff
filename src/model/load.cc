// SPDX-License-Identifier: Apache-2.0
// From a request to a decoder: laid out from headers first, so that its memory is known, then
// filled.
#include <algorithm>

#include "core/text.h"
#include "model/decoder.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

WeightRequest weight_request(const Decoder& d, const LoadRequest& request) {
  return {d.compute, d.mode == TrainMode::kAllWeights, request.seed, d.spec.initializer_range};
}

std::int64_t trainable_elements(const Decoder& d) {
  std::int64_t n = 0;
  for (const Weight& weight : d.weights) {
    if (weight.parameter.trainable) n += numel(weight.spec.shape);
  }
  for (const Lora& lora : d.loras) {
    if (lora.a.trainable) n += lora.slot.numel();
  }
  return n;
}

// What was packed is not read from the map again, but for single tokens: its pages may go.
void release_experts(const Decoder& d, const MoeLayer& layer) {
  if (!d.checkpoint) return;
  for (const Weight* weight : {layer.gate_up, layer.down}) {
    for (const std::string& name : weight->disk_names) d.checkpoint->dont_need(name);
  }
}

std::int64_t packed_bytes(const Decoder& d) {
  std::int64_t bytes = 0;
  for (const DecoderLayer& layer : d.layers) {
    if (layer.moe) bytes += layer.moe->train_plan->packed_bytes();
  }
  return bytes;
}

}  // namespace

std::unique_ptr<Decoder> describe_decoder(const LoadRequest& request, bool report) {
  if (request.mode == TrainMode::kAdapter && !request.lora.enabled) {
    throw Error(ErrorCode::kInvalidInput, "adapter: got none, expected lora to train an adapter");
  }
  if (request.mode == TrainMode::kAllWeights && request.lora.enabled) {
    throw Error(ErrorCode::kInvalidInput,
                "adapter: got lora, expected none where all weights are trained");
  }
  auto d = std::make_unique<Decoder>();
  if (!request.reinit) d->checkpoint = io::Checkpoint::open(request.folder);
  const io::JsonFile config = overlay_config(
      d->checkpoint ? d->checkpoint->config() : io::read_json(request.folder + "/config.json"),
      request.model.overrides_of_model_config);
  const io::Checkpoint* checkpoint = d->checkpoint ? &*d->checkpoint : nullptr;
  d->spec = read_spec(config.root());
  d->compute = choose_compute_dtype(request.model.compute_dtype, checkpoint, config.root());
  d->mode = request.mode;
  d->checkpointing = request.model.gradient_checkpointing;
  d->weights = describe_weights(d->spec, checkpoint, weight_request(*d, request), report);
  if (request.lora.enabled) {
    d->adapter = plan_lora(d->spec, request.lora);
    if (request.mode == TrainMode::kAdapter) d->dropout = d->adapter->config.lora_dropout;
    for (const io::AdapterSlot& slot : d->adapter->slots) {
      Lora& lora = d->loras.emplace_back();
      lora.slot = slot;
      lora.a.trainable = lora.b.trainable = request.mode == TrainMode::kAdapter;
    }
  }
  assemble(*d, request.model);
  return d;
}

void fill_decoder(Decoder& d, const LoadRequest& request, ThreadPool& pool) {
  fill_weights(d.weights, d.checkpoint ? &*d.checkpoint : nullptr, weight_request(d, request),
               pool);
  if (d.adapter) {
    // Layers point at the adapters, so their values move in place.
    auto values = make_lora(*d.adapter, request.lora, request.seed, d.mode == TrainMode::kAdapter);
    for (std::size_t i = 0; i < d.loras.size(); ++i) {
      d.loras[i].a = std::move(values[i].a);
      d.loras[i].b = std::move(values[i].b);
      d.loras[i].pack(d.compute, pool);
    }
  }
  for (DecoderLayer& layer : d.layers) {
    if (!layer.moe) continue;
    layer.moe->bind();
    layer.moe->pack(pool);
    if (layer.moe->packed.defined()) release_experts(d, *layer.moe);
  }
}

MemoryEstimate estimate_memory(const LoadRequest& request,
                               std::int64_t max_tokens,
                               int num_threads) {
  LoadRequest packing = request;
  if (packing.model.pack_experts == PackExperts::kAuto) {
    packing.model.pack_experts = PackExperts::kAlways;
  }
  const auto d = describe_decoder(packing, false);
  MemoryEstimate m;
  m.packed_experts = request.model.pack_experts == PackExperts::kNever ? 0 : packed_bytes(*d);
  for (const Weight& weight : d->weights) {
    const std::int64_t n = numel(weight.spec.shape), bytes = n * dtype_size(d->compute);
    const bool mapped =
        d->checkpoint && !weight.parameter.trainable &&
        (weight.separate || (!weight.per_expert() && weight.disk_dtype == d->compute));
    (mapped ? m.weights_mapped : m.weights) += bytes;
    if (weight.parameter.trainable && d->compute != DType::kF32) m.masters += 4 * n;
  }
  for (const Lora& lora : d->loras) {
    m.adapter += 4 * lora.slot.numel();
    if (lora.slot.num_experts == 0 && d->compute != DType::kF32) {
      m.packed += lora.slot.numel() * dtype_size(d->compute);
    }
  }
  // Cosines and sines of every position.
  m.packed += max_tokens * d->spec.head_dim * 4;
  const std::int64_t trained = trainable_elements(*d);
  m.gradients = 4 * trained;
  m.optimiser = 8 * trained;
  m.activations =
      activation_bytes(*d, max_tokens, request.mode != TrainMode::kNothing, num_threads);
  return m;
}

}  // namespace moesmith::model
