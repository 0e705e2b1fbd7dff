// SPDX-License-Identifier: Apache-2.0
// From LoRA options and a model's modules to the adapter's tensors.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "io/adapter.h"
#include "io/adapter_targets.h"
#include "model/linear.h"
#include "model/options.h"
#include "model/spec.h"

namespace moesmith::model {

// Everything in a decoder that an adapter can name.
std::vector<io::AdaptableModule> adaptable_modules(const DecoderSpec& spec);
std::vector<io::AdaptableParameter> adaptable_parameters(const DecoderSpec& spec);

struct AdapterPlan {
  io::AdapterConfig config;
  std::vector<io::AdapterSlot> slots;
};
// The configuration of lora_model_dir where that is set, else the one the options describe; and the
// slots it means for this model. Throws Error for targets that match nothing.
AdapterPlan plan_lora(const DecoderSpec& spec, const LoraOptions& options);

// Values from lora_model_dir, else drawn from `seed`. With `trainable`, gradients too.
std::deque<Lora> make_lora(const AdapterPlan& plan,
                           const LoraOptions& options,
                           std::uint64_t seed,
                           bool trainable);

}  // namespace moesmith::model
