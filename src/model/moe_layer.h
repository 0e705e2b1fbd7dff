// SPDX-License-Identifier: Apache-2.0
// Router, experts, and where the family has one the shared expert behind a sigmoid gate.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/mlp_layer.h"
#include "model/weights.h"
#include "moesmith/experts.h"

namespace moesmith::model {

// Sums over all sparse layers of a step, for the load-balancing loss.
struct BalanceStatistics {
  std::vector<double> counts;     // [experts]: slots routed to each
  std::vector<double> prob_sums;  // [experts]: sums of router probabilities

  void reset(std::int64_t num_experts) {
    counts.assign(static_cast<std::size_t>(num_experts), 0.0);
    prob_sums.assign(static_cast<std::size_t>(num_experts), 0.0);
  }
};

struct MoeLayer {
  std::int64_t num_experts = 0, top_k = 0;
  bool renormalise = false;
  Linear router;
  Weight* gate_up = nullptr;
  Weight* down = nullptr;
  Lora* gate_up_lora = nullptr;  // nullptr: none
  Lora* down_lora = nullptr;
  std::optional<MlpLayer> shared;
  Linear shared_gate;  // [1, hidden], only with `shared`

  // Base pointers of each expert; set by bind() once the weights are there.
  std::vector<const void*> gate_base, up_base, down_base;
  // decode_plan: for one token a call, where another implementation may be the faster one.
  std::optional<experts::ExpertsPlan> train_plan, infer_plan, decode_plan;

  // What pack() made, for train_plan and infer_plan; undefined without.
  Tensor packed;

  // Chooses the implementation; throws its Error where none can run this. `pack`: frozen weights
  // may be packed.
  void plan(const std::string& implementation, DType compute, bool pack);
  // Points at the weights as they lie now.
  void bind();
  // Fills `packed` where the plan reads packed copies; after bind().
  void pack(ThreadPool& pool);
};

template <class T>
struct MoeSaved {
  float* logits = nullptr;        // [n, experts]
  std::int32_t* index = nullptr;  // [n, top_k]
  float* weights = nullptr;       // [n, top_k]
  T* router_xa = nullptr;         // [n, rank]
  void* experts = nullptr;
  std::int64_t experts_bytes = 0;
  MlpSaved<T> shared;
  T* shared_out = nullptr;        // [n, hidden], before its gate
  float* shared_logit = nullptr;  // [n]
  T* shared_gate_xa = nullptr;    // [n, rank]

  void take(Arena& arena, const MoeLayer& layer, std::int64_t n, int num_threads, bool training);
};

// x, y [n, hidden]. With `training` what backward needs is kept.
template <class T>
void moe_forward(const MoeLayer& layer,
                 const LayerContext& context,
                 const T* x,
                 const MoeSaved<T>& saved,
                 T* y,
                 BalanceStatistics* balance);

// d_x [n, hidden] is overwritten. d_prob [experts] is added to the gradient of every token's router
// probabilities; nullptr: none.
template <class T>
void moe_backward(const MoeLayer& layer,
                  const LayerContext& context,
                  const T* x,
                  const MoeSaved<T>& saved,
                  T* d_y,
                  float* d_x,
                  const float* d_prob);

template <class T>
void reserve_moe_scratch(const MoeLayer& layer,
                         Arena& arena,
                         std::int64_t n,
                         int num_threads,
                         bool backward,
                         bool dropout);

}  // namespace moesmith::model
