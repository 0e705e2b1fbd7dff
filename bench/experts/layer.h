// SPDX-License-Identifier: Apache-2.0
// The tensors of one experts layer for a case: weights, tokens, routing, factors and gradients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "experts/case.h"
#include "moesmith/experts.h"
#include "moesmith/tensor.h"

namespace moesmith::bench {

// Uniform in [-1/32, 1/32], the same numbers over and over: drawing billions takes longer than what
// is measured.
Tensor random_tensor(moesmith::Shape shape, DType dtype, std::uint64_t seed);

class Layer {
 public:
  Layer(const Case& c, const experts::ExpertsPlan& plan, ThreadPool& pool);

  // Forward, and backward where the case has one. Repeat i reads other experts, or other copies of
  // them, than repeat i - 1, so that weights come from memory as they do in a model.
  void run(int repeat, const experts::ExpertsPlan& plan, ThreadPool& pool);
  // Experts that have rows, on average over the sets.
  double experts_hit() const;
  std::int64_t saved_bytes() const { return static_cast<std::int64_t>(saved_.size()); }
  std::int64_t scratch_bytes() const { return static_cast<std::int64_t>(scratch_.size()); }
  // What the copies of the weights but the first hold.
  std::int64_t further_copies_bytes() const;

 private:
  struct Weights {
    Tensor gate_up, down;  // [E,2I,H], [E,H,I]
    std::vector<const void*> gate_up_base, down_base;
    Tensor packed;  // [packed_bytes]; the others then hold no memory

    experts::ExpertsWeights views() const;
  };

  void add_weights(const Case& c, const experts::ExpertsPlan& plan, ThreadPool& pool);
  void add_gradients(const Case& c, const experts::ExpertsRequest& r);
  void* zeros(moesmith::Shape shape, DType dtype);

  std::int64_t num_experts_;
  bool backward_;
  std::vector<Weights> copies_;
  std::vector<Tensor> routing_;  // sets of [T,K]
  Tensor hidden_, d_output_, route_weights_, output_;
  std::vector<std::byte> saved_, scratch_;
  std::vector<Tensor> owned_;  // factors and targets of gradients
  experts::ExpertsInputs inputs_;
  experts::ExpertsGradients gradients_;
};

// What a layer of this case allocates, in bytes.
std::int64_t layer_bytes(const Case& c, const experts::ExpertsPlan& plan, int num_threads);

}  // namespace moesmith::bench
