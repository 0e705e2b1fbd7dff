// SPDX-License-Identifier: Apache-2.0
#include "experts_cases.h"

#include <ostream>
#include <stdexcept>

#include "core/text.h"

namespace moesmith::experts::testing {
namespace {

constexpr std::int64_t kTokens = 13;

ExpertsRequest small() {
  ExpertsRequest r;
  r.num_experts = 5;
  r.top_k = 2;
  r.hidden = 24;
  r.inter = 20;
  r.max_tokens = kTokens;
  r.gate_up_lora = {.lora_rank = 4, .lora_scale = 2.0f, .dtype = DType::kF32};
  r.down_lora = {.lora_rank = 20, .lora_scale = 0.3f, .dtype = DType::kF32};
  return r;
}

ExpertsRequest sized(std::int64_t hidden, std::int64_t inter, std::int64_t tokens) {
  ExpertsRequest r = small();
  r.hidden = hidden;
  r.inter = inter;
  r.max_tokens = tokens;
  return r;
}

Case plain(std::string name, ExpertsRequest request, Routing routing = Routing::kRandom) {
  if (!request.wanted.any()) request.wanted = all_gradients(request, GradMode::kOverwrite);
  return {std::move(name), request, request.max_tokens, routing, 0};
}

void add_layouts(std::vector<Case>& cases) {
  const struct {
    const char* name;
    GateUpLayout layout;
  } layouts[] = {{"concatenated", GateUpLayout::kConcatenated},
                 {"interleaved", GateUpLayout::kInterleaved},
                 {"separate", GateUpLayout::kSeparate}};
  for (const auto& one : layouts) {
    for (const bool transposed : {false, true}) {
      for (const bool bias : {false, true}) {
        ExpertsRequest r = small();
        r.gate_up_layout = one.layout;
        r.transposed = transposed;
        r.gate_up_bias = r.down_bias = bias;
        Case c = plain(
            str("layout_", one.name, transposed ? "_transposed" : "", bias ? "_biased" : ""), r);
        c.stride_padding = bias ? 3 : 0;
        cases.push_back(c);
      }
    }
  }
  for (const bool transposed : {false, true}) {
    ExpertsRequest r = small();
    r.activation.gated = false;
    r.transposed = transposed;
    r.gate_up_bias = r.down_bias = true;
    cases.push_back(plain(str("layout_ungated", transposed ? "_transposed" : ""), r));
  }
  for (const bool first : {false, true}) {
    ExpertsRequest r = small();
    (first ? r.gate_up_bias : r.down_bias) = true;
    cases.push_back(plain(first ? "bias_gate_up_only" : "bias_down_only", r));
  }
}

void add_activations(std::vector<Case>& cases) {
  const struct {
    const char* name;
    ActivationKind kind;
  } kinds[] = {{"silu", ActivationKind::kSilu},
               {"gelu", ActivationKind::kGelu},
               {"gelu_tanh", ActivationKind::kGeluTanh},
               {"relu", ActivationKind::kRelu},
               {"relu2", ActivationKind::kRelu2}};
  for (const auto& one : kinds) {
    for (const bool gated : {true, false}) {
      ExpertsRequest r = small();
      r.activation = {.kind = one.kind, .gated = gated, .gate_max = {}, .up_limit = {}};
      cases.push_back(plain(str("act_", one.name, gated ? "_gated" : "_alone"), r));
    }
  }
  ExpertsRequest r = small();
  r.activation = {.gate_max = 0.7f, .up_limit = 0.7f, .alpha = 1.702f, .up_shift = 1.0f};
  r.gate_up_layout = GateUpLayout::kInterleaved;
  r.transposed = r.gate_up_bias = r.down_bias = true;
  cases.push_back(plain("act_gpt_oss", r));
  r = small();
  r.activation = {.gate_max = 0.5f, .up_limit = 0.9f};
  cases.push_back(plain("act_clamped_silu", r));
  r.activation = {.kind = ActivationKind::kGeluTanh, .gate_max = {}, .up_limit = 0.4f};
  cases.push_back(plain("act_up_limit_only", r));
  r.activation = {.kind = ActivationKind::kRelu2, .gated = false, .gate_max = 0.5f, .up_limit = {}};
  cases.push_back(plain("act_alone_gate_max", r));
}

void add_lora(std::vector<Case>& cases) {
  for (const int which : {0, 1, 2}) {
    ExpertsRequest r = small();
    if (which != 1) r.gate_up_lora.lora_rank = 0;
    if (which != 2) r.down_lora.lora_rank = 0;
    const char* names[] = {"lora_none", "lora_gate_up", "lora_down"};
    cases.push_back(plain(names[which], r));
    // What a fine-tuning run asks for: the base is frozen.
    r.wanted.gate_up = r.wanted.down = {};
    r.wanted.hidden = r.wanted.top_k_weights = {GradMode::kOverwrite, DType::kF32};
    if (which == 1) r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.hidden;
    if (which == 2) r.wanted.down_a = r.wanted.down_b = r.wanted.hidden;
    cases.push_back(plain(str(names[which], "_frozen_base"), r));
  }
  ExpertsRequest r = small();
  r.gate_up_lora = {.lora_rank = 17, .lora_scale = -0.7f, .dtype = DType::kBF16};
  r.down_lora = {.lora_rank = 1, .lora_scale = 3.0f, .dtype = DType::kF32};
  cases.push_back(plain("lora_mixed_dtypes", r));
  r.gate_up_lora = {.lora_rank = 3, .lora_scale = 1.5f, .dtype = DType::kF32};
  r.down_lora = {.lora_rank = 17, .lora_scale = 0.5f, .dtype = DType::kBF16};
  cases.push_back(plain("lora_ranks_3_17", r));
  r.gate_up_lora.lora_rank = 1;
  r.down_lora.lora_rank = 3;
  r.transposed = true;
  r.gate_up_layout = GateUpLayout::kInterleaved;
  cases.push_back(plain("lora_ranks_1_3_transposed", r));
}

void add_routing(std::vector<Case>& cases) {
  cases.push_back(plain("routing_skipped", small(), Routing::kSkipped));
  cases.push_back(plain("routing_all_skipped", small(), Routing::kAllSkipped));
  cases.push_back(plain("routing_duplicates", small(), Routing::kDuplicates));
  cases.push_back(plain("routing_one_expert", small(), Routing::kOneExpert));
  ExpertsRequest r = small();
  r.gate_up_bias = r.down_bias = true;
  cases.push_back(plain("routing_skipped_biased", r, Routing::kSkipped));
  r = sized(24, 20, 300);  // 600 rows of one expert: several tiles
  cases.push_back(plain("routing_one_expert_many_rows", r, Routing::kOneExpert));
  r = sized(24, 20, 70);
  r.num_experts = 11;
  cases.push_back(plain("routing_zipf", r, Routing::kZipf));
  r.max_tokens = 16;
  cases.push_back(plain("routing_zipf_few_tokens", r, Routing::kZipf));
  r = small();
  r.top_k = 9;  // 144 rows of one expert
  r.max_tokens = 16;
  cases.push_back(plain("routing_duplicates_few_tokens", r, Routing::kDuplicates));
  r = small();
  r.max_tokens = 0;
  cases.push_back(plain("tokens_none", r));
  r.max_tokens = 1;
  cases.push_back(plain("tokens_one", r));
  r = small();
  r.top_k = 1;
  cases.push_back(plain("top_k_one", r));
  r.num_experts = 1;
  cases.push_back(plain("experts_one", r));
  r = small();
  r.num_experts = 40;  // more experts than slots
  cases.push_back(plain("experts_mostly_empty", r));
  r = small();
  r.expert_parallel = true;
  r.max_rows = 20;  // of 26 slots; a third are skipped
  cases.push_back(plain("expert_parallel_capacity", r, Routing::kSkipped));
}

void add_sizes(std::vector<Case>& cases) {
  const struct {
    std::int64_t hidden, inter, tokens;
  } sizes[] = {{1, 1, 3},    {7, 5, 4},    {33, 17, 40},   {16, 64, 70}, {65, 3, 29},
               {530, 9, 30}, {9, 530, 30}, {270, 140, 25}, {33, 17, 8},  {65, 3, 16},
               {530, 9, 7},  {9, 530, 5},  {270, 140, 6},  {2, 2070, 3}, {2070, 2, 3}};
  for (const auto& one : sizes) {
    cases.push_back(plain(str("size_h", one.hidden, "_i", one.inter, "_t", one.tokens),
                          sized(one.hidden, one.inter, one.tokens)));
  }
}

void add_dtypes(std::vector<Case>& cases) {
  ExpertsRequest r = small();
  r.index_dtype = DType::kI32;
  r.route_weights_dtype = DType::kBF16;
  cases.push_back(plain("dtypes_i32_index_bf16_route", r));
  r = small();
  r.gate_up_bias = r.down_bias = true;
  r.wanted = all_gradients(r, GradMode::kOverwrite, true);
  cases.push_back(plain("gradients_in_own_dtype", r));
  r.wanted = all_gradients(r, GradMode::kAccumulate);
  cases.push_back(plain("gradients_accumulated", r));
  cases.push_back(plain("gradients_accumulated_one_expert", r, Routing::kOneExpert));
  r.wanted = all_gradients(r, GradMode::kAccumulate, true);
  cases.push_back(plain("gradients_accumulated_in_own_dtype", r));
  r = small();
  r.recompute_h = true;
  r.gate_up_bias = true;
  cases.push_back(plain("h_computed_twice", r));
  cases.push_back(plain("h_computed_twice_skipped", r, Routing::kSkipped));
}

// In f32, in bf16, and with the two mixed. The mixed ones on a few cases only.
void add_in_dtypes(std::vector<Case>& cases, const Case& one) {
  const auto add = [&](const char* suffix, DType compute, DType weights, DType d_output) {
    Case c = one;
    ExpertsRequest& r = c.request;
    c.name += suffix;
    r.compute_dtype = compute;
    r.weight_dtype = weights;
    r.d_output_dtype = d_output;
    if (one.name.find("own_dtype") != std::string::npos) {
      r.wanted = all_gradients(r, r.wanted.hidden.mode, true);
    }
    cases.push_back(c);
  };
  add("_f32", DType::kF32, DType::kF32, DType::kF32);
  add("_bf16", DType::kBF16, DType::kBF16, DType::kBF16);
  if (one.name.rfind("layout_", 0) == 0 || one.name.rfind("gradients_", 0) == 0) {
    add("_f32_weights_bf16", DType::kF32, DType::kBF16, DType::kF32);
    add("_bf16_weights_f32", DType::kBF16, DType::kF32, DType::kF32);
  }
}

}  // namespace

WantedGradients all_gradients(const ExpertsRequest& r, GradMode mode, bool own_dtype) {
  const auto spec = [&](DType own) { return GradSpec{mode, own_dtype ? own : DType::kF32}; };
  WantedGradients w;
  w.hidden = spec(r.compute_dtype);
  w.top_k_weights = spec(r.route_weights_dtype);
  w.gate_up = w.down = spec(r.weight_dtype);
  if (r.gate_up_bias) w.gate_up_bias = spec(r.weight_dtype);
  if (r.down_bias) w.down_bias = spec(r.weight_dtype);
  if (r.gate_up_lora.lora_rank > 0) w.gate_up_a = w.gate_up_b = spec(r.gate_up_lora.dtype);
  if (r.down_lora.lora_rank > 0) w.down_a = w.down_b = spec(r.down_lora.dtype);
  return w;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> all_cases() {
  std::vector<Case> plain_cases, cases;
  add_layouts(plain_cases);
  add_activations(plain_cases);
  add_lora(plain_cases);
  add_routing(plain_cases);
  add_sizes(plain_cases);
  add_dtypes(plain_cases);
  for (const Case& one : plain_cases) add_in_dtypes(cases, one);
  return cases;
}

Case find_case(const std::string& name) {
  for (Case& one : all_cases()) {
    if (one.name == name) return one;
  }
  throw std::out_of_range("no case " + name);
}

}  // namespace moesmith::experts::testing
