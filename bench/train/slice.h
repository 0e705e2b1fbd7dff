// SPDX-License-Identifier: Apache-2.0
// A checkpoint with the layer sizes of Qwen3-30B-A3B, few layers and a small vocabulary.
#pragma once

#include <cstdint>
#include <string>

namespace moesmith::bench {

// Writes config.json and model.safetensors (bf16, about 1.2 GB a layer) to `folder` unless they are
// there. Norms are 1; the other weights are the same 2^20 numbers over and over, uniform with a
// deviation near 0.02: what they are does not change the time of a step, and drawing billions of
// them takes longer than all that is measured.
void write_slice(const std::string& folder, std::int64_t layers);

}  // namespace moesmith::bench
