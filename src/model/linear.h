// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b + scale * dropout(x) A^T B^T, and its gradients. A frozen weight costs none.
#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "io/adapter_targets.h"
#include "model/arena.h"
#include "model/parameter.h"
#include "moesmith/tensor.h"

namespace moesmith::model {

// The two factors of one adapted matrix or experts parameter.
struct Lora {
  io::AdapterSlot slot;
  Parameter a, b;
  // Matrices: a and b in the compute dtype (shared storage for f32); set by pack().
  Tensor a_packed, b_packed;

  void pack(DType compute, ThreadPool& pool);
};

struct Linear {
  std::int64_t in = 0, out = 0;
  Parameter* weight = nullptr;  // [out, in]
  Parameter* bias = nullptr;    // [out]; nullptr for none
  Lora* lora = nullptr;
  std::int64_t rank() const { return lora == nullptr ? 0 : lora->slot.r; }
};

// A matrix with rows `stride` elements apart.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t stride = 0;
};

struct Dropout {
  double probability = 0;  // 0: off
  std::uint64_t seed = 0, stream = 0;
};

struct LinearContext {
  ThreadPool& pool;
  Arena& arena;  // scratch; left as it was found
  Dropout dropout;
};

// `xa` [n, rank] keeps x A^T for the backward pass; nullptr without an adapter. y is overwritten.
template <class T>
void linear_forward(const Linear& linear,
                    const LinearContext& context,
                    std::int64_t n,
                    const T* x,
                    Matrix y,
                    T* xa);

template <class T>
struct LinearBackward {
  std::int64_t n = 0;
  const T* x = nullptr;  // [n, in]
  const T* xa = nullptr;
  Matrix dy;  // [n, out]
  Matrix dx;  // [n, in]; data nullptr when not wanted
  bool accumulate_dx = false;
};
template <class T>
void linear_backward(const Linear& linear,
                     const LinearContext& context,
                     const LinearBackward<T>& args);

// What both passes take from the arena, to be counted.
template <class T>
void reserve_linear_scratch(const Linear& linear, Arena& arena, std::int64_t n, bool dropout);

}  // namespace moesmith::model
