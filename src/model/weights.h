// SPDX-License-Identifier: Apache-2.0
// The tensors a decoder consists of: their two spellings, and getting them from a checkpoint or
// from random numbers.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "io/checkpoint.h"
#include "model/family.h"
#include "model/options.h"
#include "model/parameter.h"
#include "model/spec.h"

namespace moesmith::model {

enum class WeightKind { kMatrix, kBias, kNorm, kExperts };

struct WeightSpec {
  std::string name;  // in memory
  Shape shape;
  WeightKind kind = WeightKind::kMatrix;
  std::string disk;  // as one tensor on disk
  // kExperts: also <experts_prefix>.<e>.<part>.weight, parts stacked in this order.
  std::string experts_prefix;
  std::vector<std::string> parts;

  Shape part_shape() const;  // of one expert's part
  std::string part_name(std::int64_t expert, std::size_t part) const;
};

// In the order of transformers' modules. A tied lm_head is not among them.
std::vector<WeightSpec> weights_of(const DecoderSpec& spec, const Family& family);

struct Weight {
  WeightSpec spec;
  Parameter parameter;
  // As it lies, or will be saved, on disk: one name, or one for each expert and part.
  std::vector<std::string> disk_names;
  DType disk_dtype = DType::kF32;
  bool separate = false;  // experts used in place, one tensor for each expert and part
  std::vector<Tensor>
      pieces;  // iff separate: [expert * parts + part]; parameter.value is undefined

  bool per_expert() const { return disk_names.size() > 1; }
};

struct WeightRequest {
  DType compute = DType::kF32;
  bool trainable = false;
  std::uint64_t seed = 0;
  double initializer_range = 0.02;
};

// kAuto: the dtype of the checkpoint's embedding (of config.json's "dtype" when `checkpoint` is
// null), F16 as BF16.
DType choose_compute_dtype(ComputeDType asked,
                           const io::Checkpoint* checkpoint,
                           const io::JsonRef& config);

// Every weight without its values: where it lies, whether it will be used in place or trained.
// `checkpoint` nullptr: drawn at random. Throws one Error(kInvalidInput) that lists missing,
// unexpected and mis-shaped tensors with file, found and expected; with `report`, what the family
// carries in vain is logged once.
std::deque<Weight> describe_weights(const DecoderSpec& spec,
                                    const io::Checkpoint* checkpoint,
                                    const WeightRequest& request,
                                    bool report);
// Their values, from the checkpoint or drawn.
void fill_weights(std::deque<Weight>& weights,
                  const io::Checkpoint* checkpoint,
                  const WeightRequest& request,
                  ThreadPool& pool);

}  // namespace moesmith::model
