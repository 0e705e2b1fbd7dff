// SPDX-License-Identifier: Apache-2.0
#include "model/causal_lm.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/rng.h"
#include "core/text.h"
#include "model/decoder.h"
#include "model/elementwise.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      throw Error(ErrorCode::kInvalidInput,
                  str("input_ids[", i, "]: got ", ids[i], ", expected 0 to ", vocab_size - 1));
    }
  }
}

// The batch's tokens, after a look at every number that later indexes something.
Tokens tokens_of(const Batch& batch, const DecoderSpec& spec, bool labels) {
  const std::size_t n = batch.input_ids.size();
  check_ids(batch.input_ids, spec.vocab_size);
  const auto& offsets = batch.segment_offsets;
  const bool segments = offsets.size() >= 2 && offsets.front() == 0 &&
                        offsets.back() == static_cast<std::int64_t>(n) &&
                        std::is_sorted(offsets.begin(), offsets.end());
  if (n == 0 || batch.position_ids.size() != n || !segments ||
      (labels && batch.labels.size() != n)) {
    throw Error(ErrorCode::kInvalidInput,
                str("batch: got ", n, " tokens, ", batch.position_ids.size(), " positions, ",
                    batch.labels.size(), " labels, ", offsets.size(),
                    " offsets, expected one of each per token and offsets from 0 to their number"));
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (batch.position_ids[i] < 0 || batch.position_ids[i] >= static_cast<std::int64_t>(n)) {
      throw Error(ErrorCode::kInvalidInput, str("position_ids[", i, "]: got ",
                                                batch.position_ids[i], ", expected 0 to ", n - 1));
    }
    if (labels && batch.labels[i] != kIgnoreLabel &&
        (batch.labels[i] < 0 || batch.labels[i] >= spec.vocab_size)) {
      throw Error(ErrorCode::kInvalidInput,
                  str("labels[", i, "]: got ", batch.labels[i], ", expected ", kIgnoreLabel,
                      " or 0 to ", spec.vocab_size - 1));
    }
  }
  Tokens tokens{batch.input_ids, batch.position_ids, {}, nullptr};
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    if (offsets[s] == offsets[s + 1]) continue;
    tokens.segments.push_back({offsets[s], offsets[s + 1] - offsets[s], offsets[s], 0});
  }
  return tokens;
}

// Room for `length` rows; doubling, so that decoding copies each row a bounded number of times.
void grow(KvCache& cache, std::int64_t length, const DecoderSpec& spec, DType dtype) {
  if (length <= cache.capacity) return;
  constexpr std::int64_t kFirst = 256;
  const std::int64_t capacity = std::max({length, 2 * cache.capacity, kFirst});
  const auto num_layers = static_cast<std::size_t>(spec.num_layers());
  for (std::vector<Tensor>* side : {&cache.k, &cache.v}) {
    side->resize(num_layers);
    for (Tensor& tensor : *side) {
      Tensor larger = Tensor::empty({capacity, spec.kv_width()}, dtype);
      const std::int64_t bytes = cache.length * spec.kv_width() * dtype_size(dtype);
      if (bytes > 0) std::memcpy(larger.raw(), tensor.raw(), static_cast<std::size_t>(bytes));
      tensor = std::move(larger);
    }
  }
  cache.capacity = capacity;
}

}  // namespace

DecodeState::DecodeState() : cache_(std::make_unique<KvCache>()) {}
DecodeState::~DecodeState() = default;
DecodeState::DecodeState(DecodeState&&) noexcept = default;
DecodeState& DecodeState::operator=(DecodeState&&) noexcept = default;
std::int64_t DecodeState::length() const noexcept { return cache_->length; }
void DecodeState::truncate(std::int64_t length) {
  cache_->length = std::clamp<std::int64_t>(length, 0, cache_->length);
}

CausalLM::CausalLM(std::unique_ptr<Decoder> decoder) : decoder_(std::move(decoder)) {}
CausalLM::~CausalLM() = default;
CausalLM::CausalLM(CausalLM&&) noexcept = default;
CausalLM& CausalLM::operator=(CausalLM&&) noexcept = default;

CausalLM CausalLM::load(const LoadRequest& request, ThreadPool& pool) {
  auto decoder = describe_decoder(request, true);
  decoder->pool = &pool;
  fill_decoder(*decoder, request, pool);
  decoder->engine = make_engine(*decoder, pool);
  return CausalLM(std::move(decoder));
}

const DecoderSpec& CausalLM::spec() const noexcept { return decoder_->spec; }
std::int64_t CausalLM::vocab_size() const noexcept { return decoder_->spec.vocab_size; }
std::int64_t CausalLM::max_position_embeddings() const noexcept {
  return decoder_->spec.max_position_embeddings;
}
double CausalLM::aux_loss_coef() const noexcept {
  return decoder_->spec.output_router_logits ? decoder_->spec.router_aux_loss_coef : 0.0;
}
DType CausalLM::compute_dtype() const noexcept { return decoder_->compute; }

std::string CausalLM::experts_plan() const {
  for (const DecoderLayer& layer : decoder_->layers) {
    if (!layer.moe) continue;
    const bool training = decoder_->mode != TrainMode::kNothing;
    return (training ? layer.moe->train_plan : layer.moe->infer_plan)->to_string();
  }
  return "no layer has experts";
}

std::vector<Parameter*> CausalLM::parameters() {
  std::vector<Parameter*> list;
  for (Weight& weight : decoder_->weights) list.push_back(&weight.parameter);
  for (Lora& lora : decoder_->loras) {
    list.push_back(&lora.a);
    list.push_back(&lora.b);
  }
  return list;
}

CausalLM::Loss CausalLM::forward_backward(const Batch& batch, float loss_scale, float aux_scale) {
  MOESMITH_ASSERT(decoder_->mode != TrainMode::kNothing, "gradients need something trained");
  return decoder_->engine->loss(tokens_of(batch, decoder_->spec, true), batch.labels, true,
                                loss_scale, aux_scale);
}

CausalLM::Loss CausalLM::evaluate(const Batch& batch) {
  return decoder_->engine->loss(tokens_of(batch, decoder_->spec, true), batch.labels, false, 0, 0);
}

Tensor CausalLM::logits(const Batch& batch) {
  return decoder_->engine->logits(tokens_of(batch, decoder_->spec, false),
                                  static_cast<std::int64_t>(batch.input_ids.size()));
}

void CausalLM::set_dropout(std::uint64_t seed, std::uint64_t micro_batch) {
  const auto words = philox(seed, ~std::uint64_t{0}, micro_batch);
  decoder_->dropout_seed = (std::uint64_t{words[0]} << 32) | words[1];
}

void CausalLM::sync_values() {
  for (Weight& weight : decoder_->weights) {
    Parameter& p = weight.parameter;
    if (!p.trainable || p.value.dtype() == DType::kF32) continue;
    // In place: the experts point at these bytes.
    from_f32(p.value.data<bf16>(), p.master.data<float>(), p.master.numel(), *decoder_->pool);
  }
  for (Lora& lora : decoder_->loras) lora.pack(decoder_->compute, *decoder_->pool);
}

Tensor CausalLM::decode(DecodeState& state, std::span<const std::int32_t> tokens) {
  if (tokens.empty()) {
    throw Error(ErrorCode::kInvalidInput, "decode: got no token, expected at least one");
  }
  const DecoderSpec& spec = decoder_->spec;
  check_ids(tokens, spec.vocab_size);
  KvCache& cache = *state.cache_;
  const auto n = static_cast<std::int64_t>(tokens.size());
  grow(cache, cache.length + n, spec, decoder_->compute);
  std::vector<std::int32_t> positions(tokens.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    positions[i] = static_cast<std::int32_t>(cache.length + static_cast<std::int64_t>(i));
  }
  const Tensor logits =
      decoder_->engine->logits({tokens, positions, {{0, n, 0, cache.length}}, &cache}, 1);
  cache.length += n;
  return logits.reshaped({spec.vocab_size});
}

std::vector<io::NamedTensor> CausalLM::adapter_tensors() const {
  std::vector<io::NamedTensor> list;
  for (const Lora& lora : decoder_->loras) {
    list.emplace_back(lora.a.name, lora.a.value);
    list.emplace_back(lora.b.name, lora.b.value);
  }
  return list;
}

const io::AdapterConfig& CausalLM::adapter_config() const {
  if (!decoder_->adapter) throw Error(ErrorCode::kInternal, "adapter_config: there is no adapter");
  return decoder_->adapter->config;
}

}  // namespace moesmith::model
