// SPDX-License-Identifier: Apache-2.0
// Matching as PEFT does it. Expected answers come from reading tuners_utils and other.py.
#include "io/adapter_targets.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moesmith/error.h"
#include "temp_dir.h"
#include "tiny_model.h"

namespace moesmith::io {
namespace {

NamePattern list(std::vector<std::string> names) { return {std::move(names), std::nullopt, true}; }
NamePattern regex(const std::string& text) { return {{}, text, false}; }

TEST(adapter_targets, lists_match_whole_names_and_dotted_suffixes) {
  AdapterConfig config;
  config.target_modules = list({"q_proj", "mlp.down_proj", "lm_head"});
  EXPECT_TRUE(matches_module(config, "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches_module(config, "q_proj"));
  EXPECT_TRUE(matches_module(config, "lm_head"));
  EXPECT_TRUE(matches_module(config, "model.layers.1.mlp.down_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.1.xmlp.down_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.0.self_attn.xq_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.0.self_attn.q_proj.x"));
}

TEST(adapter_targets, a_string_is_a_regex_for_the_whole_name) {
  AdapterConfig config;
  config.target_modules = regex(R"(.*\.layers\.(0|2)\..*(q|v)_proj)");
  EXPECT_TRUE(matches_module(config, "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.0.self_attn.q_proj.x"));
  config.target_modules = regex("q_proj");
  EXPECT_FALSE(matches_module(config, "model.layers.0.self_attn.q_proj"));
  config.target_modules = regex("(?P<name>q)_proj");
  EXPECT_ERROR(matches_module(config, "x"), ErrorCode::kInvalidInput,
               "target_modules: the regular expression \"(?P<name>q)_proj\" is not understood");
}

TEST(adapter_targets, excluded_modules_win) {
  AdapterConfig config;
  config.target_modules = list({"q_proj"});
  config.exclude_modules = list({"layers.0.self_attn.q_proj"});
  EXPECT_FALSE(matches_module(config, "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches_module(config, "model.layers.1.self_attn.q_proj"));
  config.exclude_modules = regex(R"(.*layers\.1.*)");
  EXPECT_TRUE(matches_module(config, "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.1.self_attn.q_proj"));
}

TEST(adapter_targets, layers_are_chosen_for_suffix_matches_only) {
  AdapterConfig config;
  config.target_modules = list({"q_proj", "model.layers.5.self_attn.v_proj"});
  config.layers_to_transform = {1, 12};
  EXPECT_TRUE(matches_module(config, "model.layers.1.self_attn.q_proj"));
  EXPECT_TRUE(matches_module(config, "model.layers.12.self_attn.q_proj"));
  EXPECT_FALSE(matches_module(config, "model.layers.2.self_attn.q_proj"));
  EXPECT_TRUE(matches_module(config, "model.layers.5.self_attn.v_proj"));
  config.layers_pattern = {"blocks", "layers"};
  EXPECT_TRUE(matches_module(config, "model.layers.1.self_attn.q_proj"));
  config.layers_pattern = {"blocks"};
  EXPECT_FALSE(matches_module(config, "model.layers.1.self_attn.q_proj"));
  config.target_modules = regex(".*q_proj");
  EXPECT_TRUE(matches_module(config, "model.layers.2.self_attn.q_proj"));
}

TEST(adapter_targets, parameters_match_by_dotted_suffix_and_never_by_regex) {
  AdapterConfig config;
  EXPECT_FALSE(matches_parameter(config, "m.experts.gate_up_proj"));
  config.target_parameters = {"experts.gate_up_proj", ".*down_proj"};
  EXPECT_TRUE(matches_parameter(config, "m.experts.gate_up_proj"));
  EXPECT_FALSE(matches_parameter(config, "m.xexperts.gate_up_proj"));
  EXPECT_FALSE(matches_parameter(config, "m.experts.down_proj"));
}

TEST(adapter_targets, patterns_give_rank_and_scale) {
  AdapterConfig config;
  config.r = 4;
  config.lora_alpha = 8;
  config.rank_pattern = {{"q_proj", 16}, {"layers.1.*", 2}, {"experts.gate_up_proj", 1}};
  config.alpha_pattern = {{R"(model\.layers\.\d+\.self_attn\.v_proj)", 32}};
  EXPECT_EQ(rank_of(config, "model.layers.0.self_attn.q_proj"), 16);
  EXPECT_EQ(rank_of(config, "model.layers.0.self_attn.xq_proj"), 4);
  EXPECT_EQ(rank_of(config, "model.layers.1.self_attn.k_proj"), 2);
  EXPECT_EQ(rank_of(config, "model.layers.0.mlp.experts.gate_up_proj"), 1);
  EXPECT_EQ(scale_of(config, "model.layers.0.self_attn.v_proj"), 8.0);
  EXPECT_EQ(scale_of(config, "model.layers.0.self_attn.k_proj"), 2.0);
  config.use_rslora = true;
  EXPECT_EQ(scale_of(config, "model.layers.0.self_attn.k_proj"), 4.0);
  EXPECT_DOUBLE_EQ(scale_of(config, "model.layers.1.self_attn.k_proj"), 8 / std::sqrt(2.0));
  // The file sorts its keys, so the order in which two of them match would not survive it.
  EXPECT_ERROR(rank_of(config, "model.layers.1.self_attn.q_proj"), ErrorCode::kInvalidInput,
               "rank_pattern: q_proj and layers.1.* both match");
}

TEST(adapter_targets, keys_nest_all_but_the_last_parameter_of_a_module) {
  const TinyModel model = tiny_qwen3(true);
  AdapterConfig config;
  config.r = 3;
  config.target_parameters = {"experts.down_proj", "mlp.gate.weight", "experts.gate_up_proj"};
  const auto slots = plan_adapter(config, model.modules, model.parameters);
  ASSERT_EQ(slots.size(), 9u);
  const std::string stem = "base_model.model.model.layers.0.mlp.";
  EXPECT_EQ(slots[0].key_a, stem + "gate.lora_A.weight");
  EXPECT_EQ(slots[1].key_a, stem + "experts.base_layer.lora_A.weight");
  EXPECT_EQ(slots[2].key_b, stem + "experts.lora_B.weight");
  EXPECT_EQ(slots[0].shape_a(), (Shape{3, 80}));
  EXPECT_EQ(slots[0].shape_b(), (Shape{6, 3}));
  EXPECT_EQ(slots[1].shape_a(), (Shape{18, 80}));
  EXPECT_EQ(slots[1].shape_b(), (Shape{48, 18}));
  EXPECT_EQ(slots[2].numel(), 18 * 24 + 80 * 18);
  config.target_parameters = {"experts.gate_up_proj"};
  EXPECT_EQ(plan_adapter(config, model.modules, model.parameters)[0].key_a,
            stem + "experts.lora_A.weight");
}

TEST(adapter_targets, an_entry_that_matches_nothing_is_an_error) {
  const TinyModel model = tiny_qwen3(false);
  AdapterConfig config;
  config.target_modules = list({"q_proj", "v_porj"});
  EXPECT_ERROR(plan_adapter(config, model.modules, model.parameters), ErrorCode::kInvalidInput,
               "target_modules: v_porj matches nothing in this model; did you mean v_proj?");
  const TinyModel sparse = tiny_qwen3(true);
  config.target_modules = list({"q_proj", "gate_proj"});
  EXPECT_ERROR(plan_adapter(config, sparse.modules, sparse.parameters), ErrorCode::kInvalidInput,
               "name experts.down_proj and experts.gate_up_proj in target_parameters");
  config.target_modules = list({"q_proj"});
  config.target_parameters = {"mlp.experts.gate_up_proj", "mlp.experts.down_porj"};
  EXPECT_ERROR(plan_adapter(config, model.modules, model.parameters), ErrorCode::kInvalidInput,
               "did you mean mlp.experts.down_proj?");
  config.target_parameters.reset();
  config.target_modules = regex("nothing.*");
  EXPECT_ERROR(plan_adapter(config, model.modules, model.parameters), ErrorCode::kInvalidInput,
               "target_modules: nothing.* matches nothing");
  config.target_modules = list({"q_proj"});
  config.exclude_modules = list({"q_proj"});
  EXPECT_ERROR(plan_adapter(config, model.modules, model.parameters), ErrorCode::kInvalidInput,
               "leave nothing to adapt");
  EXPECT_ERROR(plan_adapter({}, model.modules, model.parameters), ErrorCode::kInvalidInput,
               "are both empty");
}

TEST(adapter_targets, dropout_on_parameters_is_refused) {
  const TinyModel model = tiny_qwen3(false);
  AdapterConfig config;
  config.lora_dropout = 0.1;
  config.target_modules = list({"q_proj"});
  EXPECT_NO_THROW(plan_adapter(config, model.modules, model.parameters));
  config.target_parameters = {"experts.down_proj"};
  EXPECT_ERROR(plan_adapter(config, model.modules, model.parameters), ErrorCode::kUnsupported,
               "lora_dropout: got 0.1, expected 0");
}

TEST(adapter_targets, a_module_and_its_parameter_cannot_both_be_named) {
  AdapterConfig config;
  config.target_modules = list({"gate"});
  config.target_parameters = {"gate.weight"};
  EXPECT_ERROR(plan_adapter(config, {{"m.gate", 4, 8}}, {{"m.gate", "weight", 0, 4, 8}}),
               ErrorCode::kInvalidInput, "expected one of the two");
}

TEST(adapter_targets, all_linear_leaves_the_output_embedding_out) {
  const TinyModel model = tiny_qwen3(false);
  AdapterConfig config;
  config.target_modules = regex("ALL-linear");
  const auto slots = plan_adapter(config, model.modules, model.parameters);
  EXPECT_EQ(slots.size(), 15u);
  std::vector<std::string> targets;
  for (const AdapterSlot& slot : slots) targets.push_back(slot.target);
  const auto names = minimal_target_modules(targets, {"lm_head"});
  EXPECT_EQ(names, (std::vector<std::string>{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj",
                                             "up_proj", "v_proj"}));
  config.target_modules = list(names);
  EXPECT_EQ(plan_adapter(config, model.modules, model.parameters).size(), slots.size());
}

TEST(adapter_targets, minimal_names_avoid_the_others) {
  EXPECT_EQ(minimal_target_modules({"a.0.q", "a.1.q", "a.0.k"}, {"b.0.k"}),
            (std::vector<std::string>{"a.0.k", "q"}));
}

}  // namespace
}  // namespace moesmith::io
