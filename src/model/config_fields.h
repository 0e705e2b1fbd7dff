// SPDX-License-Identifier: Apache-2.0
// Reading config.json's fields, both as transformers 4 and as transformers 5 spells them.
#pragma once

#include <initializer_list>
#include <string_view>

#include "io/json.h"
#include "model/spec.h"

namespace moesmith::model {

// A positive integer under the first of `keys` that is there; `fallback` 0 makes it required.
std::int64_t positive(const io::JsonRef& config,
                      std::initializer_list<std::string_view> keys,
                      std::int64_t fallback = 0);

struct CommonDefaults {
  std::int64_t num_key_value_heads = 0;  // 0: as many as query heads
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  double router_aux_loss_coef = 0.001;
};

// Sizes, heads, norm, rope, ties, router loss: what all families share. Layers are all sparse and
// unwindowed.
void read_common(const io::JsonRef& config, const CommonDefaults& defaults, DecoderSpec& spec);

// layers[i].sparse from decoder_sparse_step and mlp_only_layers.
void read_sparse_layers(const io::JsonRef& config, DecoderSpec& spec);

// rope_parameters (transformers 5) or rope_theta and rope_scaling (4): default, linear, yarn,
// llama3. Error(kUnsupported) for others.
RopeSpec read_rope(const io::JsonRef& config, std::int64_t head_dim, double default_theta);

}  // namespace moesmith::model
