// SPDX-License-Identifier: Apache-2.0
// Where batched_mm keeps things in its scratch. Sizes and offsets come from the same carving. Rows
// are those of the routing index: slots sorted by expert. All of it is small: a call has at most
// kMaxTokens tokens.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/needs.h"
#include "experts/routing.h"
#include "moesmith/experts.h"

namespace moesmith::experts::batched_mm {

inline constexpr std::int64_t kMaxTokens = 16;

// Rows of x that meet a row of weights while it is in the first cache.
inline constexpr std::int64_t kRowGroup = 16;
inline constexpr std::int64_t kMaxColumns = 512;     // of a task, at most
inline constexpr std::int64_t kMaxDxColumns = 2048;  // of a task of dx
inline constexpr std::int64_t kInterBlock = 128;  // of I, per part of the routing weights' gradient
inline constexpr std::int64_t kGradColumns = 1024;  // of a weight's gradient at a time
inline constexpr std::int64_t kGradRows = 4;        // of B's gradient at a time

// An expert that has rows: [begin, end).
struct Hit {
  std::int64_t expert, begin, end;
};

// Values rounded to compute dtype, and the same in f32 (in f32 one array serves).
template <class T>
struct Rounded {
  float* wide = nullptr;
  T* narrow = nullptr;

  static Rounded carve(Carver& carver, std::int64_t count);
  // narrow and wide [first, first + n) = scale * wide.
  void round(float scale, std::int64_t first, std::int64_t n) const;
  // wide [first, first + n) = narrow
  void widen(std::int64_t first, std::int64_t n) const;
};

// B of the experts that are hit, [hits, out, lora_rank] in compute dtype: in PEFT's layout an
// expert's column lies strided through all experts'.
template <class T>
struct PackedB {
  std::int64_t lora_rank = 0, out = 0;  // as the adapter has it; 0: no LoRA
  T* data = nullptr;

  const T* of(std::int64_t hit) const { return data + hit * out * lora_rank; }
};

struct WorkerScratch {
  float* block = nullptr;   // [kRowGroup, 2 * kMaxColumns]: sums of a task
  float* stripe = nullptr;  // [max_rows, kMaxColumns]: columns of y by row, forward only
  float* bias = nullptr;    // [2 * kMaxColumns], widened
  float* sum = nullptr;     // [kMaxColumns]
  float* left = nullptr;    // [kRowGroup, max_rows]: columns of the left side of a gradient
  float* grad = nullptr;    // [kRowGroup, kGradColumns]
  float* row = nullptr;     // [kGradRows, r E]: rows of B's gradient in PEFT's layout
};

// The workers' pieces, one after the other.
struct Workers {
  std::byte* base = nullptr;
  std::int64_t bytes = 0;  // of one
  bool backward = false;

  static Workers carve(Carver& carver,
                       const ExpertsRequest& request,
                       std::int64_t num_tokens,
                       int num_threads,
                       bool backward);
  WorkerScratch worker(const ExpertsRequest& request, std::int64_t num_tokens, int number) const;
};

template <class T>
struct Work {
  RoutingIndex index;
  Hit* hits = nullptr;
  std::int64_t num_hits = 0;  // filled by find_hits()
  PackedB<T> b_1, b_2;
  float* x = nullptr;   // [T, H], null in f32: the caller's serve
  Rounded<T> u_1, u_2;  // [max_rows, r1], [max_rows, r2]
  Rounded<T> a;         // [max_rows, I]
  Workers workers;

  // Backward only.
  T* h = nullptr;                 // [max_rows, 2I] when it is computed again
  Rounded<T> d_h;                 // [max_rows, 2I]
  float* dy = nullptr;            // [T, H], null where the caller's are f32
  float* v_1 = nullptr;           // [max_rows, r1]
  float* v_2 = nullptr;           // [max_rows, r2]
  float* weighted_v_2 = nullptr;  // [max_rows, r2]
  float* weighted_u_2 = nullptr;  // [max_rows, r2]
  float* weighted_a = nullptr;    // [max_rows, I]
  float* x_rows = nullptr;        // [max_rows, H]: x by row
  float* dy_rows = nullptr;       // [max_rows, H]: dy by row
  float* d_x_rows = nullptr;      // [max_rows, H]: dx by row
  float* d_weights = nullptr;     // [max_rows, blocks of I]: parts of <dA', a>

  static Work carve_forward(Carver& carver,
                            const ExpertsRequest& request,
                            std::int64_t num_tokens,
                            int num_threads);
  static Work carve_backward(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens,
                             int num_threads);
  void find_hits();
};

}  // namespace moesmith::experts::batched_mm
