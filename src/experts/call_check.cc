// SPDX-License-Identifier: Apache-2.0
// Checks of one call's arguments, before anything is written.
#include <initializer_list>

#include "core/text.h"
#include "core/thread_pool.h"
#include "experts/request.h"
#include "experts/routing.h"
#include "moesmith/error.h"

namespace moesmith::experts {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidInput, "experts call: " + what);
}

void check_pointer(const char* name, const void* pointer) {
  if (pointer == nullptr) refuse(str(name, ": got no pointer, expected one"));
}

void check_projection(const char* name,
                      const ProjectionWeights& weights,
                      std::int64_t num_experts,
                      std::int64_t cols) {
  const auto given = static_cast<std::int64_t>(weights.base.size());
  if (given != num_experts) {
    refuse(
        str(name, ".base: got ", given, " pointers, expected one per expert (", num_experts, ")"));
  }
  for (const void* base : weights.base) check_pointer(name, base);
  if (weights.row_stride < cols) {
    refuse(str(name, ".row_stride: got ", weights.row_stride, ", expected at least ", cols));
  }
}

void check_weights(const ExpertsRequest& r, const ExpertsWeights& w) {
  const bool separate = r.activation.gated && r.gate_up_layout == GateUpLayout::kSeparate;
  const std::int64_t width = separate ? r.inter : r.gate_up_width();
  check_projection("weights.gate_up", w.gate_up, r.num_experts, r.transposed ? width : r.hidden);
  if (separate) {
    check_projection("weights.up", w.up, r.num_experts, r.transposed ? width : r.hidden);
  }
  check_projection("weights.down", w.down, r.num_experts, r.transposed ? r.hidden : r.inter);
  if (r.gate_up_bias) check_pointer("weights.gate_up_bias", w.gate_up_bias);
  if (r.down_bias) check_pointer("weights.down_bias", w.down_bias);
}

void check_lora(const char* name, const LoraSpec& spec, const LoraFactors& factors) {
  if (spec.lora_rank == 0) return;
  check_pointer(name, factors.a);
  check_pointer(name, factors.b);
}

void check_inputs(const ExpertsRequest& r, const ExpertsInputs& in) {
  if (in.num_tokens < 0 || in.num_tokens > r.max_tokens) {
    refuse(str("num_tokens: got ", in.num_tokens, ", expected 0 to max_tokens = ", r.max_tokens));
  }
  if (in.num_tokens > 0) {
    check_pointer("hidden", in.hidden);
    check_pointer("top_k_index", in.top_k_index);
    check_pointer("top_k_weights", in.top_k_weights);
  }
  check_weights(r, in.weights);
  check_lora("gate_up_lora", r.gate_up_lora, in.gate_up_lora);
  check_lora("down_lora", r.down_lora, in.down_lora);
  if (r.max_rows > 0 && r.device == Device::kCpu) {  // the host does not see a GPU's indices
    const std::int64_t rows = count_rows(r, in);
    if (rows > r.max_rows) {
      refuse(str("top_k_index: got ", rows, " slots for the experts here, expected at most ",
                 "max_rows = ", r.max_rows));
    }
  }
}

void check_packed(const ExpertsPlan& plan, const ExpertsInputs& in) {
  if (plan.packed_bytes() > 0) check_pointer("packed_weights", in.packed_weights);
}

void check_buffer(const char* name, std::size_t given, std::int64_t needed) {
  if (static_cast<std::int64_t>(given) < needed) {
    refuse(str(name, ": got ", given, " bytes, expected at least ", needed));
  }
}

}  // namespace

void check_pack(const ExpertsPlan& plan, const ExpertsWeights& weights, std::size_t packed_bytes) {
  check_weights(plan.request(), weights);
  check_buffer("packed", packed_bytes, plan.packed_bytes());
}

void check_forward(const ExpertsPlan& plan, const ForwardArgs& args, int num_threads) {
  const ExpertsRequest& r = plan.request();
  check_inputs(r, args.inputs);
  check_packed(plan, args.inputs);
  if (args.inputs.num_tokens > 0) check_pointer("output", args.output);
  const ExpertsSizes sizes = plan.sizes(args.inputs.num_tokens, num_threads);
  check_buffer("saved", args.saved.size(), sizes.saved_bytes);
  check_buffer("scratch", args.scratch.size(), sizes.forward_scratch_bytes);
}

void check_backward(const ExpertsPlan& plan, const BackwardArgs& args, int num_threads) {
  const ExpertsRequest& r = plan.request();
  if (!r.wanted.any()) refuse("backward of a plan that wants no gradient, expected one that does");
  check_inputs(r, args.inputs);
  check_packed(plan, args.inputs);
  const bool tokens = args.inputs.num_tokens > 0;
  if (tokens) check_pointer("d_output", args.d_output);
  const ExpertsSizes sizes = plan.sizes(args.inputs.num_tokens, num_threads);
  check_buffer("saved", args.saved.size(), sizes.saved_bytes);
  check_buffer("scratch", args.scratch.size(), sizes.backward_scratch_bytes);

  const WantedGradients& w = r.wanted;
  const ExpertsGradients& g = args.gradients;
  struct Target {
    const char* name;
    const GradSpec& spec;
    const void* pointer;
  };
  for (const Target& t :
       {Target{"gradients.gate_up", w.gate_up, g.gate_up}, Target{"gradients.down", w.down, g.down},
        Target{"gradients.gate_up_bias", w.gate_up_bias, g.gate_up_bias},
        Target{"gradients.down_bias", w.down_bias, g.down_bias},
        Target{"gradients.gate_up_a", w.gate_up_a, g.gate_up_a},
        Target{"gradients.gate_up_b", w.gate_up_b, g.gate_up_b},
        Target{"gradients.down_a", w.down_a, g.down_a},
        Target{"gradients.down_b", w.down_b, g.down_b}}) {
    if (t.spec.wanted()) check_pointer(t.name, t.pointer);
  }
  if (tokens && w.hidden.wanted()) check_pointer("gradients.hidden", g.hidden);
  if (tokens && w.top_k_weights.wanted()) check_pointer("gradients.top_k_weights", g.top_k_weights);
}

}  // namespace moesmith::experts
