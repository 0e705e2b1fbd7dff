// SPDX-License-Identifier: Apache-2.0
// Compares this implementation with golden data that transformers and PEFT wrote: logits, loss,
// every gradient, adapters, and five AdamW steps. tests/data/goldens/README.md has the format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace moesmith::model {

struct GoldenPart {
  std::string part;    // "logits", "adapter: gradients", ...
  std::string tensor;  // the worst one
  double error = 0;    // its error, of the kind the part is measured in
  double bound = 0;
  std::int64_t num_tensors = 0;
  std::int64_t left_out = 0;  // train: elements whose first gradient is too small to compare
  bool ok() const { return error <= bound; }  // false for NaN
};

// max |a - b| <= 1e-4 * max |b| for logits, loss, gradients and the experts layer; after training,
// losses to 1e-4 relative and tensors to 1e-3 in relative L2. Throws Error for a folder that is not
// of that format.
std::vector<GoldenPart> check_golden(const std::string& folder,
                                     const std::string& experts_implementation,
                                     ThreadPool& pool);

}  // namespace moesmith::model
