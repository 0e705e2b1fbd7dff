// SPDX-License-Identifier: Apache-2.0
// What the model's tests share: the golden models as subjects, and batches to run them on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "model/causal_lm.h"

namespace moesmith::model {

std::string golden_folder(const std::string& name);

// The families' plain models, and those with dense layers, ties, windows and auxiliary loss.
const std::vector<std::string>& golden_names();

LoadRequest request_for(const std::string& name,
                        TrainMode mode = TrainMode::kNothing,
                        ComputeDType dtype = ComputeDType::kF32);
// As request_for, with the golden adapter of that name.
LoadRequest adapter_request(const std::string& name,
                            ComputeDType dtype = ComputeDType::kF32,
                            const std::string& adapter = "adapter");

// Samples of these lengths, packed; token ids below `vocab` drawn from `stream`, each labelled with
// the next.
Batch make_batch(const std::vector<std::int64_t>& lengths,
                 std::int64_t vocab,
                 std::uint64_t stream = 1);
// Sample `s` of a batch alone.
Batch sample_of(const Batch& batch, std::size_t s);

// Every trained parameter's gradient, one after the other.
std::vector<float> gradients_of(CausalLM& model);
void zero_gradients(CausalLM& model);
std::vector<float> values_of(const Tensor& tensor);

bool bitwise_equal(const std::vector<float>& a, const std::vector<float>& b);
// max |a - b| / max |b|
double relative_error(const std::vector<float>& a, const std::vector<float>& b);

// A folder for one test, gone with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }
  // A copy of a golden model.
  std::string copy_model(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace moesmith::model
