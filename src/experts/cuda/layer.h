// SPDX-License-Identifier: Apache-2.0
// One call of scattermoe on a GPU: the request's layouts as operands of the kernels' products.
#pragma once

#include "experts/cuda/workspace.h"
#include "kernels/cuda/common/elementwise.h"

namespace moesmith::experts::on_cuda {

struct Layer {
  const ExpertsRequest& request;
  const ExpertsInputs& inputs;
  const Work& work;
  void* stream;

  bool f32() const { return request.compute_dtype == DType::kF32; }
  bool paired() const { return request.activation.gated; }
  bool separate() const { return paired() && request.gate_up_layout == GateUpLayout::kSeparate; }
  bool interleaved() const {
    return paired() && request.gate_up_layout == GateUpLayout::kInterleaved;
  }

  // Routing index, pointer tables and packed factors: the head of both passes.
  void prepare() const;

  // a [rows, ld] in compute dtype, or [T, ld] by token.
  kernels::gpu::RowOperand by_row(const void* data, std::int64_t ld) const;
  kernels::gpu::RowOperand by_token(const void* data, std::int64_t ld) const;

  // Weights as y = x W^T multiplies them; flipped() as dx = dy W does.
  kernels::gpu::ExpertOperand gate_up_pairs() const;
  kernels::gpu::ExpertOperand gate_up_matrix(const void* const* table) const;
  kernels::gpu::ExpertOperand down() const;
  kernels::gpu::ExpertOperand factor_a(const Factors& factors, std::int64_t in) const;
  kernels::gpu::ExpertOperand factor_b(const Factors& factors, std::int64_t out) const;
  kernels::gpu::ExpertOperand gate_up_factor_b_pairs() const;
  static kernels::gpu::ExpertOperand flipped(kernels::gpu::ExpertOperand operand);

  // Fills in rows and tiles and runs it.
  void run(kernels::gpu::RowProduct& product, bool base_weight) const;
  // out [rows, r16] = scale * a factor
  void rank_product(const kernels::gpu::RowOperand& a,
                    const kernels::gpu::ExpertOperand& factor,
                    std::int64_t k,
                    int rank,
                    float scale,
                    void* out,
                    void* weighted = nullptr) const;
  // h and a from x and u_1; either may be null.
  void pre_activation(const void* u_1, void* h, void* a) const;

  static kernels::gpu::GradientTarget target(const GradSpec& spec, void* data);
};

}  // namespace moesmith::experts::on_cuda
