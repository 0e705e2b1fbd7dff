// SPDX-License-Identifier: Apache-2.0
// One tensor of the model or of its adapter.
#pragma once

#include <string>

#include "moesmith/tensor.h"

namespace moesmith::model {

struct Parameter {
  // transformers' in-memory spelling ("model.layers.0.mlp.experts.gate_up_proj") or, for an
  // adapter, PEFT's key without ".default"
  // ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").
  std::string name;
  Shape shape;
  // What kernels read: compute dtype for weights, f32 in PEFT's layout for adapters. Undefined for
  // frozen experts whose checkpoint has one tensor per expert: those stay in the mapped file.
  Tensor value;
  Tensor master;  // f32, defined iff trainable; shares storage with value when value is f32
  Tensor grad;    // f32, defined iff trainable; kernels ADD into it
  bool trainable = false;
};

}  // namespace moesmith::model
