// SPDX-License-Identifier: Apache-2.0
// The products of an experts layer by oneDNN on weights in its own blocked layout.
#pragma once

#include <cstdint>
#include <memory>

#include "core/thread_pool.h"
#include "experts/case.h"

namespace moesmith::bench {

class OneDnnPacked {
 public:
  OneDnnPacked(const Case& c, ThreadPool& pool);
  ~OneDnnPacked();

  // Gathers rows and multiplies them by both projections of their expert; in mode lora, then the
  // gradients by both, transposed. Experts rotate as in Layer.
  void run(int repeat, ThreadPool& pool);
  double experts_hit() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes of what it keeps per slot.
std::int64_t slot_bytes(const Case& c);

}  // namespace moesmith::bench
