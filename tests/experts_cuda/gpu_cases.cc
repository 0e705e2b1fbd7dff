// SPDX-License-Identifier: Apache-2.0
#include "gpu_cases.h"

#include "core/text.h"

namespace moesmith::experts::testing {
namespace {

struct Size {
  const char* name;
  std::int64_t num_experts, hidden, inter, tokens;
};

ExpertsRequest sized(const Size& size, DType dtype) {
  ExpertsRequest r;
  r.num_experts = size.num_experts;
  r.top_k = 2;
  r.hidden = size.hidden;
  r.inter = size.inter;
  r.max_tokens = size.tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = dtype;
  r.gate_up_lora = {.lora_rank = 16, .lora_scale = 2.0f, .dtype = DType::kF32};
  r.down_lora = {.lora_rank = 8, .lora_scale = 0.5f, .dtype = DType::kBF16};
  return r;
}

void add(std::vector<Case>& cases, std::string name, ExpertsRequest r, Routing routing) {
  if (!r.wanted.any()) r.wanted = all_gradients(r, GradMode::kOverwrite);
  cases.push_back({std::move(name), r, r.max_tokens, routing, 0});
}

void add_layouts(std::vector<Case>& cases, const Size& size) {
  const struct {
    const char* name;
    GateUpLayout layout;
    bool transposed, gated;
  } layouts[] = {{"concatenated", GateUpLayout::kConcatenated, false, true},
                 {"interleaved", GateUpLayout::kInterleaved, false, true},
                 {"separate", GateUpLayout::kSeparate, false, true},
                 {"transposed", GateUpLayout::kConcatenated, true, true},
                 {"interleaved_transposed", GateUpLayout::kInterleaved, true, true},
                 {"separate_transposed", GateUpLayout::kSeparate, true, true},
                 {"ungated", GateUpLayout::kConcatenated, false, false}};
  for (const auto& one : layouts) {
    ExpertsRequest r = sized(size, DType::kBF16);
    r.gate_up_layout = one.layout;
    r.transposed = one.transposed;
    r.activation.gated = one.gated;
    r.gate_up_bias = r.down_bias = one.transposed;
    add(cases, str(size.name, "_", one.name, "_bf16"), r, Routing::kRandom);
  }
}

}  // namespace

std::vector<Case> gpu_cases() {
  std::vector<Case> cases;
  add_layouts(cases, {"tiles_large", 2, 136, 72, 150});
  add_layouts(cases, {"tiles_small", 8, 136, 72, 60});
  add_layouts(cases, {"tiles_several", 3, 272, 264, 140});
  add_layouts(cases, {"tiles_odd", 2, 133, 71, 140});

  const Size size{"", 2, 136, 72, 150};
  ExpertsRequest r = sized(size, DType::kF32);
  add(cases, "tiles_large_f32", r, Routing::kRandom);
  r.transposed = true;
  add(cases, "tiles_large_transposed_f32", r, Routing::kSkipped);

  for (const std::int64_t rank : {64, 80, 256}) {
    r = sized(size, DType::kBF16);
    r.gate_up_lora.lora_rank = r.down_lora.lora_rank = rank;
    add(cases, str("rank_", rank, "_bf16"), r, Routing::kRandom);
  }
  // 1,400 rows of one expert: several tiles of rows, two chunks of the sums over rows.
  r = sized({"", 3, 72, 40, 700}, DType::kBF16);
  r.gate_up_bias = r.down_bias = true;
  add(cases, "chunks_bf16", r, Routing::kOneExpert);
  r.wanted = all_gradients(r, GradMode::kAccumulate, true);
  add(cases, "chunks_accumulated_bf16", r, Routing::kOneExpert);
  // More slots than a chunk of the counting sort, with holes, and many experts.
  r = sized({"", 300, 16, 8, 1500}, DType::kBF16);
  r.wanted = {};
  r.wanted.hidden = r.wanted.top_k_weights = {GradMode::kOverwrite, DType::kF32};
  add(cases, "slots_3000_of_300_experts_bf16", r, Routing::kSkipped);
  // What is asked for alone decides what is computed.
  for (const int which : {0, 1, 2, 3, 4}) {
    r = sized(size, DType::kBF16);
    const GradSpec wanted{GradMode::kOverwrite, DType::kF32};
    const char* names[] = {"down", "down_a", "down_b", "top_k_weights", "gate_up_b"};
    GradSpec* specs[] = {&r.wanted.down, &r.wanted.down_a, &r.wanted.down_b,
                         &r.wanted.top_k_weights, &r.wanted.gate_up_b};
    *specs[which] = wanted;
    add(cases, str("only_", names[which], "_bf16"), r, Routing::kRandom);
  }
  return cases;
}

}  // namespace moesmith::experts::testing
