// SPDX-License-Identifier: Apache-2.0
// Where grouped_mm keeps things in its scratch, per pass and per worker. Sizes and offsets come
// from the same carving.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/lora.h"
#include "experts/needs.h"
#include "experts/routing.h"
#include "moesmith/experts.h"

namespace moesmith::experts::grouped_mm {

// Tiles of one worker; those that a pass does not need are null.
template <class T>
struct WorkerTiles {
  T* x = nullptr;           // [rows, H]
  T* dy = nullptr;          // [rows, H]
  T* h = nullptr;           // [rows, 2I]
  T* d_h = nullptr;         // [rows, 2I]
  T* a = nullptr;           // [rows, I]
  T* u = nullptr;           // [rows, larger r16]
  float* sums = nullptr;    // [rows, max(2I, H, r16)]
  float* d_a = nullptr;     // [rows, I]
  float* wide_1 = nullptr;  // [H]
  float* wide_2 = nullptr;  // [H]
  // For sums over rows: two operands and their product.
  T* left = nullptr;       // [kTileRows, kLongSide]
  T* right = nullptr;      // [kTileRows, kLongSide]
  float* block = nullptr;  // [block of a gradient]
};

// Blocks of a gradient [p, q]: at most kLongSide x kShortSide in either order, or, where p or q is
// no more than kShortSide, that times kLongSide.
inline constexpr std::int64_t kLongSide = 512;
inline constexpr std::int64_t kShortSide = 256;

template <class T>
struct ForwardWork {
  RoutingIndex index;
  PackedLora<T> lora_1, lora_2;
  T* y_rows = nullptr;  // [max_rows, H]
  std::byte* workers = nullptr;
  std::int64_t worker_bytes = 0;

  static ForwardWork carve(Carver& carver,
                           const ExpertsRequest& request,
                           std::int64_t num_tokens,
                           int num_threads);
  WorkerTiles<T> worker(const ExpertsRequest& request, std::int64_t num_tokens, int number) const;
};

template <class T>
struct BackwardWork {
  RoutingIndex index;
  PackedLora<T> lora_1, lora_2;
  T* h_rows = nullptr;     // [max_rows, 2I], when h is computed again and needed twice
  T* d_h_rows = nullptr;   // [max_rows, 2I]
  T* v_1_rows = nullptr;   // [max_rows, r16]
  T* v_2_rows = nullptr;   // [max_rows, r16]
  T* d_x_rows = nullptr;   // [max_rows, H]
  float* d_b_1 = nullptr;  // [E, 2I, r16]
  float* d_b_2 = nullptr;  // [E, H, r16]
  std::byte* workers = nullptr;
  std::int64_t worker_bytes = 0;

  static BackwardWork carve(Carver& carver,
                            const ExpertsRequest& request,
                            std::int64_t num_tokens,
                            int num_threads);
  WorkerTiles<T> worker(const ExpertsRequest& request, std::int64_t num_tokens, int number) const;
};

}  // namespace moesmith::experts::grouped_mm
