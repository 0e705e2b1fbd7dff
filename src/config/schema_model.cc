// SPDX-License-Identifier: Apache-2.0
// Schema: model, LoRA, experts, generation.
#include "config/schema.h"

namespace moesmith::config {
namespace {

using K = Keys<Config>;
using model::LoraInit;

}  // namespace

Section model_section() {
  return {
      "Model and output",
      {
          required(K::text("base_model", MOESMITH_AT(Config, train.base_model),
                           "Checkpoint in Hugging Face format: a folder, or a hub id such as "
                           "Qwen/Qwen3-30B-A3B that "
                           "lies in the local cache (HF_HOME). Required.")),
          K::text("revision_of_model", MOESMITH_AT(Config, train.revision_of_model),
                  "Revision of a hub id in the local cache; main when empty."),
          K::text("tokenizer_config", MOESMITH_AT(Config, train.tokenizer_config),
                  "Folder with the tokenizer, when it is not base_model's."),
          K::flag("reinit_weights", MOESMITH_AT(Config, train.reinit_weights),
                  "Start from config.json alone, with weights drawn from seed; base_model then "
                  "needs no "
                  "weights."),
          K::text("output_dir", MOESMITH_AT(Config, train.output_dir),
                  "Where the adapter or the weights, checkpoints, log and plot go."),
          K::flag("overwrite_output_dir", MOESMITH_AT(Config, runtime.overwrite_output_dir),
                  "Remove what an earlier run left in output_dir instead of refusing to start."),
          K::list("sample_prompts", MOESMITH_AT(Config, runtime.sample_prompts),
                  "Texts that the model continues before the first and after the last step."),
          K::choice<Toggle>(
              "bf16", MOESMITH_AT(Config, surface.bf16),
              {{"auto", Toggle::kAuto}, {"true", Toggle::kTrue}, {"false", Toggle::kFalse}},
              "true computes in bf16 (sums in f32), false in f32, auto in what the checkpoint is "
              "stored in."),
          K::flag("bfloat16", MOESMITH_AT(Config, surface.bfloat16), "Same as bf16."),
          K::flag("float32", MOESMITH_AT(Config, surface.float32),
                  "Compute in f32; same as bf16: false."),
          K::choice<bool>(
              "gradient_checkpointing", MOESMITH_AT(Config, model.gradient_checkpointing),
              {{"true", true}, {"false", false}, {"offload", true}, {"offload_disk", true}},
              "Keep only each layer's input and compute the layer again in the backward pass: less "
              "memory, one forward pass more. There is nothing to offload to, so offload means "
              "true."),
          K::object(
              "overrides_of_model_config", MOESMITH_AT(Config, model.overrides_of_model_config),
              "Laid over the checkpoint's config.json, as {output_router_logits: true} for the "
              "load-balancing loss."),
          K::integer("seed", MOESMITH_AT(Config, train.seed), {0.0, {}, false, false},
                     "Everything random is a function of it."),
          K::integer("threads", MOESMITH_AT(Config, runtime.threads), {0.0, 4096.0, false, false},
                     "Worker threads; 0: the processors this process may use, at most the cgroup's "
                     "quota."),
          K::choice<model::PackExperts>(
              "pack_experts", MOESMITH_AT(Config, model.pack_experts),
              {{"auto", model::PackExperts::kAuto},
               {"true", model::PackExperts::kAlways},
               {"false", model::PackExperts::kNever}},
              "Frozen experts, packed once into the kernels' layout: faster steps, the same "
              "numbers, about twice the experts' size in memory. false: read where the checkpoint "
              "is mapped; auto: packed when the run then takes at most half of the memory."),
          K::choice<NumaPolicy>(
              "numa", MOESMITH_AT(Config, runtime.numa),
              {{"auto", NumaPolicy::kAuto},
               {"interleave", NumaPolicy::kInterleave},
               {"local", NumaPolicy::kLocal}},
              "Memory on several sockets. interleave: pages in turn from the nodes whose "
              "processors "
              "are used; local: from the node of the thread that touches them first; auto: "
              "interleave where there are several."),
      }};
}

Section lora_section() {
  return {
      "LoRA",
      {
          K::one_of("adapter", MOESMITH_AT(Config, surface.adapter), {"lora"},
                    "lora trains an adapter; empty trains all weights."),
          K::text("lora_model_dir", MOESMITH_AT(Config, lora.lora_model_dir),
                  "An adapter to train further; for inference and merge-lora the adapter to use "
                  "(default "
                  "there: output_dir)."),
          K::integer("lora_r", MOESMITH_AT(Config, lora.lora_r), {1.0, 65536.0, false, false},
                     "Rank; for experts, of each expert."),
          K::integer("lora_alpha", MOESMITH_AT(Config, lora.lora_alpha), {1.0, 1e9, false, false},
                     "The adapter's product is scaled by lora_alpha / lora_r."),
          K::number("lora_dropout", MOESMITH_AT(Config, lora.lora_dropout), {0.0, 1.0, false, true},
                    "Share of the adapter's inputs set to 0 in training. Must be 0 with "
                    "lora_target_parameters, as in PEFT."),
          K::names_or_regex(
              "lora_target_modules", MOESMITH_AT(Config, lora.lora_target_modules),
              MOESMITH_AT(Config, lora.lora_target_modules_regex),
              "Modules to adapt: names (whole, or the end after a dot), or one regular expression "
              "for the whole name."),
          K::flag(
              "lora_target_linear", MOESMITH_AT(Config, lora.lora_target_linear),
              "Adapt each linear module but lm_head and the router. Does not reach fused experts."),
          K::list("lora_target_parameters", MOESMITH_AT(Config, lora.lora_target_parameters),
                  "Parameters to adapt, by name or the end after a dot: mlp.experts.gate_up_proj, "
                  "mlp.experts.down_proj, mlp.gate.weight."),
          K::names_or_regex("lora_exclude_modules", MOESMITH_AT(Config, lora.lora_exclude_modules),
                            MOESMITH_AT(Config, lora.lora_exclude_modules_regex),
                            "Modules to leave out, as in lora_target_modules."),
          K::integer_map("lora_rank_pattern", MOESMITH_AT(Config, lora.lora_rank_pattern),
                         {1.0, 65536.0, false, false},
                         "Rank by name pattern; the first that matches wins."),
          K::integer_map("lora_alpha_pattern", MOESMITH_AT(Config, lora.lora_alpha_pattern),
                         {1.0, 1e9, false, false},
                         "Alpha by name pattern; the first that matches wins."),
          K::flag("peft_use_rslora", MOESMITH_AT(Config, lora.peft_use_rslora),
                  "Scale by lora_alpha / sqrt(lora_r)."),
          K::choice<LoraInit>(
              "peft_init_lora_weights", MOESMITH_AT(Config, lora.peft_init_lora_weights),
              {{"true", LoraInit::kKaiming},
               {"gaussian", LoraInit::kGaussian},
               {"false", LoraInit::kRandom}},
              "true: A uniform, B zero. gaussian: A normal, B zero. false: both random, so the "
              "adapter starts with an effect."),
          K::integers("peft_layers_to_transform",
                      MOESMITH_AT(Config, lora.peft_layers_to_transform),
                      "Numbers of the layers to adapt; empty: all."),
          K::list(
              "peft_layers_pattern", MOESMITH_AT(Config, lora.peft_layers_pattern),
              "Name of the list of layers that peft_layers_to_transform counts; empty: layers."),
      }};
}

Section experts_section() {
  return {
      "Experts",
      {
          K::text("experts_implementation", MOESMITH_AT(Config, surface.experts_implementation),
                  "eager, batched_mm, grouped_mm, scattermoe, sonicmoe or auto (default). What is "
                  "named here "
                  "runs, or the start-up error says why it cannot; nothing is replaced."),
          K::flag("use_scattermoe", MOESMITH_AT(Config, surface.use_scattermoe),
                  "Same as experts_implementation: scattermoe."),
          K::flag("use_sonicmoe", MOESMITH_AT(Config, surface.use_sonicmoe),
                  "Same as experts_implementation: sonicmoe."),
          K::text("expert_backend", MOESMITH_AT(Config, surface.expert_backend),
                  "Same as experts_implementation."),
          K::flag("use_kernels", MOESMITH_AT(Config, surface.use_kernels),
                  "Kernels are always used; false contradicts use_scattermoe and use_sonicmoe."),
          K::integer(
              "expert_parallel_size", MOESMITH_AT(Config, surface.expert_parallel_size),
              {1.0, 65536.0, false, false},
              "Processes that share the experts. This command is one process, so only 1 is taken."),
          K::list("plugins", MOESMITH_AT(Config, surface.plugins),
                  "Axolotl's plug-ins by name; what they switch on is built in, without effect, or "
                  "refused."),
      }};
}

Section generation_section() {
  return {
      "Generation (moesmith inference)",
      {
          K::integer("max_new_tokens", MOESMITH_AT(Config, generation.max_new_tokens),
                     {1.0, 1e9, false, false}, "Longest reply."),
          K::number("temperature", MOESMITH_AT(Config, generation.temperature),
                    {0.0, {}, false, false}, "0: the most likely token each time."),
          K::number(
              "top_p", MOESMITH_AT(Config, generation.top_p), {0.0, 1.0, true, false},
              "Sample from the most likely tokens that together have this probability; 1: off."),
          K::integer("top_k", MOESMITH_AT(Config, generation.top_k), {0.0, {}, false, false},
                     "Sample from this many most likely tokens; 0: off."),
          K::number("repetition_penalty", MOESMITH_AT(Config, generation.repetition_penalty),
                    {0.0, {}, true, false},
                    "Divides the scores of tokens that have occurred; 1: off."),
      }};
}

}  // namespace moesmith::config
