// SPDX-License-Identifier: Apache-2.0
#include "model/moe_layer.h"

#include <cmath>

#include "core/profile.h"
#include "kernels/router/router.h"
#include "model/elementwise.h"
#include "model/parts.h"

namespace moesmith::model {
namespace {

namespace router = kernels::router;

// Bounds what one call may hold; a plan is made before the batch size is known.
constexpr std::int64_t kMaxTokens = std::int64_t{1} << 20;

template <class T>
Matrix dense(T* data, std::int64_t cols) {
  return {data, DTypeOf<T>::value, cols};
}

std::span<std::byte> bytes_of(void* data, std::int64_t size) {
  return {static_cast<std::byte*>(data), static_cast<std::size_t>(size)};
}

router::Problem problem_of(const MoeLayer& layer, std::int64_t n) {
  return {n, layer.num_experts, layer.top_k, layer.renormalise};
}

experts::LoraSpec lora_spec(const Lora* lora) {
  if (lora == nullptr) return {};
  return {lora->slot.r, static_cast<float>(lora->slot.scale), DType::kF32};
}
experts::LoraFactors lora_factors(const Lora* lora) {
  if (lora == nullptr) return {};
  return {lora->a.value.raw(), lora->b.value.raw()};
}
experts::GradSpec grad_of(bool wanted) {
  return {wanted ? experts::GradMode::kAccumulate : experts::GradMode::kNone, DType::kF32};
}
bool trained(const Lora* lora) { return lora != nullptr && lora->a.trainable; }

experts::ExpertsWeights weights_of(const MoeLayer& layer) {
  const std::int64_t hidden = layer.router.in, inter = layer.down->spec.shape[2];
  experts::ExpertsWeights weights;
  weights.gate_up = {layer.gate_base, hidden};
  weights.up = {layer.up_base, hidden};
  weights.down = {layer.down_base, inter};
  return weights;
}

template <class T>
experts::ExpertsInputs inputs_of(const MoeLayer& layer,
                                 std::int64_t n,
                                 const T* x,
                                 const MoeSaved<T>& s) {
  experts::ExpertsInputs in;
  in.num_tokens = n;
  in.hidden = x;
  in.top_k_index = s.index;
  in.top_k_weights = s.weights;
  in.weights = weights_of(layer);
  if (layer.packed.defined()) in.packed_weights = static_cast<const std::byte*>(layer.packed.raw());
  in.gate_up_lora = lora_factors(layer.gate_up_lora);
  in.down_lora = lora_factors(layer.down_lora);
  return in;
}

const experts::ExpertsPlan& forward_plan(const MoeLayer& layer, std::int64_t n, bool training) {
  if (training) return *layer.train_plan;
  return n == 1 ? *layer.decode_plan : *layer.infer_plan;
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

constexpr std::int64_t kTokenChunk = 32;

// Of the base products of one pass over n tokens: forward; backward by the inputs alone; each
// trained weight's own gradient comes on top.
double experts_flops(const MoeLayer& layer, std::int64_t n, bool backward) {
  const double one = 2.0 * static_cast<double>(n * layer.top_k) *
                     static_cast<double>(layer.router.in * layer.down->spec.shape[2]);
  double products = 3.0;
  if (backward && layer.gate_up->parameter.trainable) products += 2.0;
  if (backward && layer.down->parameter.trainable) products += 1.0;
  return products * one;
}

// y += sigmoid(shared_logit) * shared_out
template <class T>
void add_shared(const LayerContext& c, const MoeSaved<T>& s, T* y) {
  const profile::Scope scope(part::kElementwise);
  const std::int64_t hidden = c.spec.hidden_size;
  c.pool.for_chunks(c.num_tokens, kTokenChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float gate = sigmoid(s.shared_logit[t]);
      T* row = y + t * hidden;
      const T* from = s.shared_out + t * hidden;
      for (std::int64_t i = 0; i < hidden; ++i) {
        row[i] = T(static_cast<float>(row[i]) + gate * static_cast<float>(from[i]));
      }
    }
  });
}

// d_out = sigmoid(logit) * d_y; d_logit = <d_y, out> * sigmoid'(logit)
template <class T>
void shared_gate_backward(
    const LayerContext& c, const MoeSaved<T>& s, const T* d_y, T* d_out, float* d_logit) {
  const profile::Scope scope(part::kElementwise);
  const std::int64_t hidden = c.spec.hidden_size;
  const auto& op = kernels::rows::ops<T>();
  c.pool.for_chunks(c.num_tokens, kTokenChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float gate = sigmoid(s.shared_logit[t]);
      const T* row = d_y + t * hidden;
      d_logit[t] = op.dot(row, s.shared_out + t * hidden, hidden) * gate * (1.0f - gate);
      for (std::int64_t i = 0; i < hidden; ++i) {
        d_out[t * hidden + i] = T(gate * static_cast<float>(row[i]));
      }
    }
  });
}

template <class T>
struct BackwardScratch {
  float* d_weights = nullptr;       // [n, top_k]
  float* d_logits = nullptr;        // [n, experts]
  T* d_shared = nullptr;            // [n, hidden]
  float* d_shared_logit = nullptr;  // [n]

  void take(Arena& arena, const MoeLayer& layer, std::int64_t n) {
    d_weights = arena.take<float>(n * layer.top_k);
    d_logits = arena.take<float>(n * layer.num_experts);
    d_shared = layer.shared ? arena.take<T>(n * layer.router.in) : nullptr;
    d_shared_logit = layer.shared ? arena.take<float>(n) : nullptr;
  }
};

}  // namespace

void MoeLayer::plan(const std::string& implementation, DType compute, bool pack) {
  experts::ExpertsRequest request;
  request.packed_weights = pack && !gate_up->parameter.trainable && !down->parameter.trainable;
  request.implementation = implementation;
  request.num_experts = num_experts;
  request.top_k = top_k;
  request.hidden = router.in;
  request.inter = down->spec.shape[2];
  request.max_tokens = kMaxTokens;
  request.compute_dtype = request.weight_dtype = request.d_output_dtype = compute;
  request.index_dtype = DType::kI32;
  request.gate_up_layout =
      gate_up->separate ? experts::GateUpLayout::kSeparate : experts::GateUpLayout::kConcatenated;
  request.gate_up_lora = lora_spec(gate_up_lora);
  request.down_lora = lora_spec(down_lora);
  infer_plan = experts::plan_experts(request);
  request.max_tokens = 1;
  decode_plan = experts::plan_experts(request);
  request.max_tokens = kMaxTokens;
  request.wanted.hidden = {experts::GradMode::kOverwrite, DType::kF32};
  request.wanted.top_k_weights = {experts::GradMode::kOverwrite, DType::kF32};
  request.wanted.gate_up = grad_of(gate_up->parameter.trainable);
  request.wanted.down = grad_of(down->parameter.trainable);
  request.wanted.gate_up_a = request.wanted.gate_up_b = grad_of(trained(gate_up_lora));
  request.wanted.down_a = request.wanted.down_b = grad_of(trained(down_lora));
  train_plan = experts::plan_experts(request);
}

void MoeLayer::pack(ThreadPool& pool) {
  const std::int64_t bytes = train_plan->packed_bytes();
  if (bytes == 0) return;
  packed = Tensor::empty({bytes / dtype_size(DType::kF32)}, DType::kF32);
  train_plan->pack(weights_of(*this), bytes_of(packed.raw(), bytes), pool);
}

void MoeLayer::bind() {
  const auto experts_of = [&](const Weight& weight, std::size_t part, std::size_t parts,
                              std::vector<const void*>& base) {
    base.resize(static_cast<std::size_t>(num_experts));
    for (std::size_t e = 0; e < base.size(); ++e) {
      if (weight.separate) {
        base[e] = weight.pieces[e * parts + part].raw();
      } else {
        const Tensor& fused = weight.parameter.value;
        base[e] = static_cast<const char*>(fused.raw()) +
                  static_cast<std::int64_t>(e) * (fused.bytes() / num_experts);
      }
    }
  };
  experts_of(*gate_up, 0, 2, gate_base);
  if (gate_up->separate) experts_of(*gate_up, 1, 2, up_base);
  experts_of(*down, 0, 1, down_base);
}

template <class T>
void MoeSaved<T>::take(
    Arena& arena, const MoeLayer& layer, std::int64_t n, int num_threads, bool training) {
  logits = arena.take<float>(n * layer.num_experts);
  index = arena.take<std::int32_t>(n * layer.top_k);
  weights = arena.take<float>(n * layer.top_k);
  router_xa = arena.take<T>(n * layer.router.rank());
  experts_bytes = training ? layer.train_plan->sizes(n, num_threads).saved_bytes : 0;
  experts = experts_bytes > 0 ? arena.take_bytes(experts_bytes) : nullptr;
  if (!layer.shared) return;
  shared.take(arena, *layer.shared, n);
  shared_out = arena.take<T>(n * layer.router.in);
  shared_logit = arena.take<float>(n);
  shared_gate_xa = arena.take<T>(n * layer.shared_gate.rank());
}

template <class T>
void moe_forward(const MoeLayer& layer,
                 const LayerContext& c,
                 const T* x,
                 const MoeSaved<T>& s,
                 T* y,
                 BalanceStatistics* balance) {
  const std::int64_t n = c.num_tokens, mark = c.arena.mark();
  const router::Problem problem = problem_of(layer, n);
  linear_forward(layer.router, c.linear(kRouter), n, x, dense(s.logits, layer.num_experts),
                 s.router_xa);
  {
    const profile::Scope scope(part::kRouter);
    router::forward(problem, s.logits, s.index, s.weights, c.pool);
    if (balance != nullptr) {
      router::add_balance_statistics(problem, s.logits, s.index, balance->counts.data(),
                                     balance->prob_sums.data());
    }
  }
  const experts::ExpertsPlan& plan = forward_plan(layer, n, c.training);
  experts::ForwardArgs args;
  args.inputs = inputs_of(layer, n, x, s);
  args.output = y;
  args.saved = bytes_of(s.experts, s.experts_bytes);
  const std::int64_t scratch = plan.sizes(n, c.pool.num_threads()).forward_scratch_bytes;
  args.scratch = bytes_of(c.arena.take_bytes(scratch), scratch);
  {
    const profile::Scope scope(part::kExperts, experts_flops(layer, n, false));
    plan.forward(args, c.pool);
  }
  c.arena.rewind(mark);
  if (!layer.shared) return;
  mlp_forward(*layer.shared, c, x, s.shared, s.shared_out);
  linear_forward(layer.shared_gate, c.linear(kSharedGate), n, x, dense(s.shared_logit, 1),
                 s.shared_gate_xa);
  add_shared(c, s, y);
}

template <class T>
void moe_backward(const MoeLayer& layer,
                  const LayerContext& c,
                  const T* x,
                  const MoeSaved<T>& s,
                  T* d_y,
                  float* d_x,
                  const float* d_prob) {
  const std::int64_t n = c.num_tokens, hidden = layer.router.in, mark = c.arena.mark();
  BackwardScratch<T> b;
  b.take(c.arena, layer, n);
  const std::int64_t inner = c.arena.mark();
  const auto grad = [](Parameter& p) -> void* { return p.trainable ? p.grad.raw() : nullptr; };
  experts::BackwardArgs args;
  args.inputs = inputs_of(layer, n, x, s);
  args.d_output = d_y;
  args.saved = bytes_of(s.experts, s.experts_bytes);
  const std::int64_t scratch =
      layer.train_plan->sizes(n, c.pool.num_threads()).backward_scratch_bytes;
  args.scratch = bytes_of(c.arena.take_bytes(scratch), scratch);
  args.gradients.hidden = d_x;
  args.gradients.top_k_weights = b.d_weights;
  args.gradients.gate_up = grad(layer.gate_up->parameter);
  args.gradients.down = grad(layer.down->parameter);
  if (layer.gate_up_lora != nullptr) {
    args.gradients.gate_up_a = grad(layer.gate_up_lora->a);
    args.gradients.gate_up_b = grad(layer.gate_up_lora->b);
  }
  if (layer.down_lora != nullptr) {
    args.gradients.down_a = grad(layer.down_lora->a);
    args.gradients.down_b = grad(layer.down_lora->b);
  }
  {
    const profile::Scope scope(part::kExperts, experts_flops(layer, n, true));
    layer.train_plan->backward(args, c.pool);
  }
  c.arena.rewind(inner);
  {
    const profile::Scope scope(part::kRouter);
    router::backward(problem_of(layer, n), s.logits, s.index, b.d_weights, d_prob, b.d_logits,
                     c.pool);
  }
  linear_backward<T>(
      layer.router, c.linear(kRouter),
      {n, x, s.router_xa, dense(b.d_logits, layer.num_experts), dense(d_x, hidden), true});
  if (layer.shared) {
    shared_gate_backward(c, s, d_y, b.d_shared, b.d_shared_logit);
    linear_backward<T>(
        layer.shared_gate, c.linear(kSharedGate),
        {n, x, s.shared_gate_xa, dense(b.d_shared_logit, 1), dense(d_x, hidden), true});
    mlp_backward(*layer.shared, c, x, s.shared, b.d_shared, d_x, true);
  }
  c.arena.rewind(mark);
}

template <class T>
void reserve_moe_scratch(const MoeLayer& layer,
                         Arena& arena,
                         std::int64_t n,
                         int num_threads,
                         bool backward,
                         bool dropout) {
  const std::int64_t mark = arena.mark();
  const experts::ExpertsPlan& plan = forward_plan(layer, n, backward);
  const experts::ExpertsSizes sizes = plan.sizes(n, num_threads);
  arena.take_bytes(sizes.forward_scratch_bytes);
  arena.rewind(mark);
  if (backward) {
    BackwardScratch<T> scratch;
    scratch.take(arena, layer, n);
    const std::int64_t inner = arena.mark();
    arena.take_bytes(sizes.backward_scratch_bytes);
    arena.rewind(inner);
  }
  reserve_linear_scratch<T>(layer.router, arena, n, dropout);
  if (layer.shared) {
    reserve_linear_scratch<T>(layer.shared_gate, arena, n, dropout);
    reserve_mlp_scratch<T>(*layer.shared, arena, n, backward, dropout);
  }
  arena.rewind(mark);
}

#define MOESMITH_INSTANTIATE(T)                                                                    \
  template struct MoeSaved<T>;                                                                     \
  template void moe_forward<T>(const MoeLayer&, const LayerContext&, const T*, const MoeSaved<T>&, \
                               T*, BalanceStatistics*);                                            \
  template void moe_backward<T>(const MoeLayer&, const LayerContext&, const T*,                    \
                                const MoeSaved<T>&, T*, float*, const float*);                     \
  template void reserve_moe_scratch<T>(const MoeLayer&, Arena&, std::int64_t, int, bool, bool);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::model
