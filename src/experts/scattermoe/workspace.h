// SPDX-License-Identifier: Apache-2.0
// Where scattermoe keeps things in its scratch. Sizes and offsets come from the same carving. Rows
// are those of the routing index: slots sorted by expert.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/lora.h"
#include "experts/needs.h"
#include "experts/routing.h"
#include "experts/scattermoe/stream.h"
#include "moesmith/experts.h"

namespace moesmith::experts::scattermoe {

// Rows [begin, end) of one expert, at most kBlockRows.
struct RowBlock {
  std::int64_t expert, begin, end;
};

// Sums over an expert's rows: columns of the left side per task, of the right side at once, and
// words of k at a time.
inline constexpr std::int64_t kSumRows = 96, kSumColumns = 512, kSumWords = 128;

// Columns of y or dx per task: enough tasks for an even load. How the columns are cut does not
// change a bit of the result.
std::int64_t stripe_columns(const ExpertsRequest& request, bool backward, int num_threads);

struct WorkerScratch {
  BlockScratch block;
  float* stripe = nullptr;      // [T, stripe_columns]: of y or dx
  float* bias = nullptr;        // [max(2I, H)], widened
  float* wide = nullptr;        // [max(2I, H)]
  char* left = nullptr;         // packed [kSumRows, words of rows], at most kSumWords
  char* right = nullptr;        // packed panels [words of rows, columns of a tile], kSumColumns
  float* sums = nullptr;        // [kSumRows, kSumColumns]
  const void** rows = nullptr;  // pointers to the rows of one chunk, twice
};

template <class T>
struct ForwardWork {
  RoutingIndex index;
  PackedLora<T> lora_1, lora_2;
  RowBlock* blocks = nullptr;
  std::int64_t num_blocks = 0;  // filled by cut_rows()
  T* u_1 = nullptr;             // [max_rows, r16]; null where the saved state has it
  T* u_2 = nullptr;
  T* a = nullptr;           // [max_rows, I]
  std::int64_t stripe = 0;  // stripe_columns()
  std::byte* workers = nullptr;
  std::int64_t worker_bytes = 0;

  static ForwardWork carve(Carver& carver,
                           const ExpertsRequest& request,
                           std::int64_t num_tokens,
                           int num_threads);
  WorkerScratch worker(const ExpertsRequest& request, std::int64_t num_tokens, int number) const;
};

template <class T>
struct BackwardWork {
  RoutingIndex index;
  PackedLora<T> lora_1, lora_2;
  RowBlock* blocks = nullptr;
  std::int64_t num_blocks = 0;
  T* dy = nullptr;             // [T, H] when d_output comes in another dtype
  T* h = nullptr;              // [max_rows, 2I] when it is computed again
  T* d_h = nullptr;            // [max_rows, 2I]
  T* v_1 = nullptr;            // [max_rows, r16]
  T* v_2 = nullptr;            // [max_rows, r16]
  T* weighted_v_2 = nullptr;   // [max_rows, r16]
  T* weighted_u_2 = nullptr;   // [max_rows, r16]
  T* a = nullptr;              // [max_rows, I]
  T* weighted_a = nullptr;     // [max_rows, I]
  float* d_weights = nullptr;  // [max_rows, blocks of I]: parts of <dA', a>
  float* d_b_1 = nullptr;      // [E, 2I, r16]
  float* d_b_2 = nullptr;      // [E, H, r16]
  std::int64_t stripe = 0;     // stripe_columns()
  std::byte* workers = nullptr;
  std::int64_t worker_bytes = 0;

  static BackwardWork carve(Carver& carver,
                            const ExpertsRequest& request,
                            std::int64_t num_tokens,
                            int num_threads);
  WorkerScratch worker(const ExpertsRequest& request, std::int64_t num_tokens, int number) const;
};

// Cuts each expert's rows evenly into blocks; returns their number.
std::int64_t cut_rows(const RoutingIndex& index, RowBlock* blocks);

}  // namespace moesmith::experts::scattermoe
