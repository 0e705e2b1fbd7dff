// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/profile.h"
#include "kernels/embedding/embedding.h"
#include "model/decoder.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

// Everything of a step that outlives a layer.
template <class T>
struct Workspace {
  std::vector<T*> x;  // [layers + 1] inputs of the layers and output of the last, [n, hidden]
  std::vector<LayerSaved<T>> saved;  // [layers]; all in one place where each is used up at once
  HeadSaved<T> head;
  T* d_x = nullptr;  // [n, hidden]

  void take(Arena& arena, const Decoder& d, std::int64_t n, bool backward, int threads) {
    const std::size_t num_layers = d.layers.size();
    const std::int64_t width = n * d.spec.hidden_size;
    x.assign(num_layers + 1, nullptr);
    saved.resize(num_layers);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = backward || i < 2 ? arena.take<T>(width) : x[i - 2];
    }
    const bool overlay = !backward || d.checkpointing;
    const std::int64_t begin = arena.mark();
    std::int64_t end = begin;
    for (std::size_t i = 0; i < num_layers; ++i) {
      if (overlay) arena.rewind(begin);
      saved[i].take(arena, d.layers[i], d.spec, n, threads, backward);
      end = std::max(end, arena.mark());
    }
    arena.rewind(end);
    head.take(arena, d.head, n);
    if (backward) d_x = arena.take<T>(width);
  }
};

// The same sequence of takes as a step makes.
template <class T>
std::int64_t count_bytes(const Decoder& d, std::int64_t n, bool backward, int num_threads) {
  Arena arena;
  Workspace<T> workspace;
  workspace.take(arena, d, n, backward, num_threads);
  const bool dropout = backward && d.dropout > 0;
  for (const DecoderLayer& layer : d.layers) {
    reserve_layer_scratch<T>(layer, d.spec, arena, n, num_threads, backward, dropout);
  }
  reserve_head_scratch<T>(d.head, arena, n, backward, dropout);
  return arena.peak();
}

template <class T>
class EngineOf final : public Engine {
 public:
  EngineOf(Decoder& decoder, ThreadPool& pool) : d_(decoder), pool_(pool) {}

  CausalLM::Loss loss(const Tokens& tokens,
                      std::span<const std::int32_t> labels,
                      bool backward,
                      float loss_scale,
                      float aux_scale) override {
    begin(tokens, backward);
    forward(tokens, backward);
    const LayerContext head = context(tokens, d_.layers.size(), backward);
    const HeadLoss ce = head_loss(d_.head, head, workspace_.x.back(), workspace_.head, labels,
                                  loss_scale, backward ? workspace_.d_x : nullptr);
    CausalLM::Loss loss{ce.sum, ce.num_tokens, aux_loss(tokens.ids.size(), aux_scale)};
    if (backward) backward_layers(tokens);
    return loss;
  }

  Tensor logits(const Tokens& tokens, std::int64_t count) override {
    begin(tokens, false);
    forward(tokens, false);
    const auto n = static_cast<std::int64_t>(tokens.ids.size());
    Tensor out = Tensor::empty({count, d_.spec.vocab_size}, DType::kF32);
    head_logits(d_.head, context(tokens, d_.layers.size(), false), workspace_.head, n - count, n,
                out.data<float>());
    return out;
  }

 private:
  void begin(const Tokens& tokens, bool backward) {
    const auto n = static_cast<std::int64_t>(tokens.ids.size());
    const std::int64_t bytes = count_bytes<T>(d_, n, backward, pool_.num_threads());
    // The old block goes first: the plan counted only one.
    if (bytes > arena_.capacity()) {
      arena_ = Arena();
      arena_ = Arena(bytes);
    }
    arena_.rewind(0);
    workspace_.take(arena_, d_, n, backward, pool_.num_threads());
    std::int32_t last = 0;
    for (const std::int32_t position : tokens.positions) last = std::max(last, position);
    d_.rope.reserve(std::int64_t{last} + 1);
    balance_.reset(d_.spec.num_experts);
  }

  LayerContext context(const Tokens& tokens, std::size_t layer, bool training) {
    LayerContext c{d_.spec, pool_, arena_, d_.rope};
    c.num_tokens = static_cast<std::int64_t>(tokens.ids.size());
    c.positions = tokens.positions;
    c.segments = tokens.segments;
    if (tokens.cache != nullptr && layer < d_.layers.size()) {
      c.cache = {&tokens.cache->k[layer], &tokens.cache->v[layer], tokens.cache->length};
    }
    c.training = training;
    if (training) c.dropout = d_.dropout;
    c.dropout_seed = d_.dropout_seed;
    c.dropout_stream_base = static_cast<std::uint64_t>(layer) * kLinearsPerLayer;
    return c;
  }

  void forward(const Tokens& tokens, bool training) {
    {
      const profile::Scope scope(part::kEmbedding);
      kernels::embedding::forward(tokens.ids, d_.embedding->value.data<T>(), d_.spec.hidden_size,
                                  workspace_.x[0], pool_);
    }
    for (std::size_t i = 0; i < d_.layers.size(); ++i) {
      layer_forward(d_.layers[i], context(tokens, i, training), workspace_.x[i],
                    workspace_.saved[i], workspace_.x[i + 1],
                    d_.spec.output_router_logits ? &balance_ : nullptr);
    }
    head_norm(d_.head, context(tokens, d_.layers.size(), training), workspace_.x.back(),
              workspace_.head);
  }

  // transformers' load_balancing_loss_func over all sparse layers' logits together, and the
  // gradient of scale * loss by each token's probabilities.
  double aux_loss(std::size_t num_tokens, float scale) {
    const std::int64_t rows = d_.num_sparse_layers() * static_cast<std::int64_t>(num_tokens);
    d_prob_.clear();
    if (!d_.spec.output_router_logits || rows == 0) return 0;
    const double e = static_cast<double>(d_.spec.num_experts), r = static_cast<double>(rows);
    double loss = 0;
    for (std::size_t i = 0; i < balance_.counts.size(); ++i) {
      loss += balance_.counts[i] / r * (balance_.prob_sums[i] / r);
      d_prob_.push_back(
          static_cast<float>(static_cast<double>(scale) * e * balance_.counts[i] / (r * r)));
    }
    return e * loss;
  }

  void backward_layers(const Tokens& tokens) {
    for (std::size_t i = d_.layers.size(); i-- > 0;) {
      const bool need_dx = d_.need_input_grad(static_cast<std::int64_t>(i));
      if (!need_dx && !d_.layers[i].trainable) return;
      const LayerContext c = context(tokens, i, true);
      // The last layer's values are still there from the forward pass.
      if (d_.checkpointing && i + 1 < d_.layers.size()) {
        layer_forward<T>(d_.layers[i], c, workspace_.x[i], workspace_.saved[i], workspace_.x[i + 1],
                         nullptr);
      }
      layer_backward<T>(d_.layers[i], c, workspace_.x[i], workspace_.saved[i], workspace_.d_x,
                        d_prob_.empty() ? nullptr : d_prob_.data(), need_dx);
    }
    if (d_.embedding->trainable) {
      const profile::Scope scope(part::kEmbedding);
      kernels::embedding::backward(tokens.ids, workspace_.d_x, d_.spec.hidden_size,
                                   d_.embedding->grad.data<float>(), pool_);
    }
  }

  Decoder& d_;
  ThreadPool& pool_;
  Arena arena_;
  Workspace<T> workspace_;
  BalanceStatistics balance_;
  std::vector<float> d_prob_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(Decoder& decoder, ThreadPool& pool) {
  if (decoder.compute == DType::kF32) return std::make_unique<EngineOf<float>>(decoder, pool);
  return std::make_unique<EngineOf<bf16>>(decoder, pool);
}

std::int64_t activation_bytes(const Decoder& decoder,
                              std::int64_t n,
                              bool backward,
                              int num_threads) {
  return decoder.compute == DType::kF32 ? count_bytes<float>(decoder, n, backward, num_threads)
                                        : count_bytes<bf16>(decoder, n, backward, num_threads);
}

}  // namespace moesmith::model
