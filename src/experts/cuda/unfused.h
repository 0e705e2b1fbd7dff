// SPDX-License-Identifier: Apache-2.0
// The layer as products that know nothing of routing: rows are gathered, multiplied by a library's
// grouped product into f32, and rounded, activated and combined by kernels of their own. What
// `eager` and `grouped_mm` share; they differ in the products.
#pragma once

#include <cstdint>
#include <span>

#include "experts/cuda/layer.h"

namespace moesmith::experts::on_cuda {

// One product per expert, of its rows. Operands have the compute dtype; an expert without rows
// takes no part.
class GroupedProducts {
 public:
  virtual ~GroupedProducts() = default;

  // sums[row, n] = or += sum over k of a[row, k] b[n, k]
  struct ByMatrix {
    const void* a = nullptr;  // [rows, a_stride]
    std::int64_t a_stride = 0;
    kernels::gpu::ExpertOperand b;
    std::span<const void* const> b_host;  // the pointers of b.table, where it has one
    std::int64_t n = 0, k = 0;
    float* sums = nullptr;  // [rows, stride]
    std::int64_t stride = 0;
    bool accumulate = false;
  };
  // out [E, m, n] = or += sum over an expert's rows of left[row, m] right[row, n]. Without rows it
  // stays what it was.
  struct ByRows {
    const void* left = nullptr;   // [rows, m]
    const void* right = nullptr;  // [rows, n]
    std::int64_t m = 0, n = 0;
    void* out = nullptr;
    bool out_is_f32 = true, accumulate = false;
  };

  // Takes what it needs of scratch; also over no buffer, to count.
  virtual void carve(Carver& carver, const ExpertsRequest& request) = 0;
  // Once a call, when the rows are queued and before the products.
  virtual void begin(const kernels::gpu::Rows& rows, const CudaStream& stream) = 0;
  virtual void run(const ByMatrix& product) = 0;
  virtual void run(const ByRows& product) = 0;
};

// T is the compute dtype. What a pass does not need stays null.
struct UnfusedWork {
  Work common;
  void* x = nullptr;  // [rows, H] T
  void* u_1 = nullptr;
  void* u_2 = nullptr;    // [rows, r16] T, where the saved state does not have it
  void* h = nullptr;      // [rows, 2I] T, the like
  void* a = nullptr;      // [rows, I] T
  float* sums = nullptr;  // [rows, the widest product]
  // Backward.
  void* dy = nullptr;   // [rows, H] T
  void* d_h = nullptr;  // [rows, 2I] T
  void* v_1 = nullptr;  // [rows, r16] T
  void* v_2 = nullptr;
  void* weighted_v_2 = nullptr;
  void* weighted_u_2 = nullptr;
  void* weighted_a = nullptr;  // [rows, I] T
  float* d_weights = nullptr;  // [rows]
  float* parts = nullptr;      // [E, wide, narrow], or by tile for biases

  static UnfusedWork forward(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens);
  static UnfusedWork backward(Carver& carver,
                              const ExpertsRequest& request,
                              std::int64_t num_tokens);
};

// The operands of one call.
struct UnfusedLayer {
  const Layer layer;  // of work.common
  const UnfusedWork& work;
  GroupedProducts& products;

  const ExpertsRequest& request() const { return layer.request; }

  // out = T(scale * rows factor) and, where given, weighted.
  void rank_product(const void* rows,
                    std::int64_t k,
                    const kernels::gpu::ExpertOperand& factor,
                    int rank,
                    float scale,
                    void* out,
                    void* weighted = nullptr) const;
  // h = T(x W1^T + u1 B1^T + b1) from gathered x
  void pre_activation(const void* u_1, void* h) const;
  void gather(const void* from, bool from_is_f32, void* to) const;

  // sums = or += rows times the base weights, or their packed factors.
  void multiply(const void* rows,
                std::int64_t rows_stride,
                const kernels::gpu::ExpertOperand& b,
                std::span<const void* const> b_host,
                std::int64_t n,
                std::int64_t k,
                bool accumulate,
                std::int64_t first_column = 0,
                std::int64_t stride = 0) const;
};

ExpertsSizes unfused_sizes(const ExpertsRequest& request,
                           std::int64_t num_tokens,
                           GroupedProducts& products);
void unfused_forward(const ExpertsRequest& request,
                     const ForwardArgs& args,
                     const CudaStream& stream,
                     GroupedProducts& products);
void unfused_backward(const ExpertsRequest& request,
                      const BackwardArgs& args,
                      const CudaStream& stream,
                      GroupedProducts& products);

}  // namespace moesmith::experts::on_cuda
