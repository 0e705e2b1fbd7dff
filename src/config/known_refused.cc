// SPDX-License-Identifier: Apache-2.0
// Axolotl's keys that would change the result and are not built: an error that names the key. Null,
// false and the inert values ask for nothing and pass in silence.
#include "config/known.h"
#include "config/schema.h"

namespace moesmith::config {
namespace {

constexpr KnownGroup kGroups[] = {
    {"a quantised base is not built; bf16 weights are used as they lie on disk",
     "load_in_4bit load_in_8bit quantize_moe_experts gptq model_quantization_config quantization "
     "qat fp8 "
     "use_onebitllms nvfp4_merge_aware llmcompressor"},
    {"f16 is not computed in; use bf16: true or bf16: false", "fp16 float16"},
    {"training runs in one process; several processes are not built",
     "deepspeed fsdp fsdp_config ddp deepcompile use_ray"},
    {"training runs in one process; several processes are not built",
     "dp_shard_size dp_replicate_size tensor_parallel_size context_parallel_size "
     "sequence_parallel_degree "
     "world_size",
     "0,1"},
    {"training runs in one process; several processes are not built", "local_rank", "-1,0"},
    {"dropping tokens above an expert's capacity is not built", "expert_parallel_token_capacity"},
    {"preference and reward training is not built; train on datasets with replies",
     "rl reward_model process_reward_model ebft diffusion"},
    {"only datasets is read; write the text as a data set of type completion",
     "pretraining_dataset streaming"},
    {"the vocabulary cannot be changed",
     "tokens added_tokens_overrides resize_token_embeddings_to_32x shrink_embeddings "
     "fix_untrained_tokens tokenizer_use_mistral_common peft_trainable_token_indices"},
    {"beside the adapter nothing can be trained; leave adapter empty to train all weights",
     "lora_modules_to_save unfrozen_parameters", ""},
    {"this variant of LoRA is not built",
     "peft_use_dora peft peft_layer_replication peft_ensure_weight_tying lora_fan_in_fan_out "
     "relora"},
    {"adapters are kept in f32", "peft_autocast_adapter_dtype", "true"},
    {"one learning rate holds for all weights",
     "loraplus_lr_ratio embedding_lr embedding_lr_scale lr_groups optim_target_modules "
     "lisa_n_layers",
     "0"},
    {"the optimiser is AdamW; use adam_beta1, adam_beta2, adam_epsilon and weight_decay",
     "optim_args"},
    {"this schedule is not built; lr_scheduler is cosine, linear, constant or constant_with_warmup",
     "lr_quadratic_warmup lr_div_factor lr_scheduler_kwargs cosine_constant_lr_ratio "
     "jagged_restart_steps"},
    {"use cosine_min_lr_ratio, a share of learning_rate", "eta_min"},
    {"the last weights are kept, not the best ones; use max_steps or the checkpoints",
     "early_stopping_patience load_best_model_at_end", "0"},
    {"rows keep their order or are all shuffled (shuffle_merged_datasets)",
     "group_by_length curriculum_sampling sample_packing_sequentially "
     "shuffle_before_merging_datasets"},
    {"take rows out of the files before training, or use split: train[a:b]",
     "dataset_exact_deduplication dataset_shard_num dataset_shard_idx"},
    {"write the system message into the rows or the template", "default_system_message"},
    {"mask by roles_to_train and train_on_eos of the data set", "role_boundaries"},
    {"evaluation uses sequence_len", "eval_sequence_len"},
    {"noise on embeddings is not built", "neftune_noise_alpha noisy_embedding_alpha", "0"},
    {"this loss is not built", "use_eaft scaling_softmax"},
    {"long-context training is not built; overrides_of_model_config can change the model's "
     "rope_scaling",
     "use_pose s2_attention rope_scaling"},
    {"Axolotl dropped this key; use sample_packing: true and sequence_len",
     "max_packed_sequence_len"},
    {"use overrides_of_model_config", "overrides_of_model_kwargs"},
    {"config.json is read from base_model", "base_model_config"},
    {"the trainer cannot be replaced", "trainer_cls"},
    {"Axolotl does not read this key; it is spelt adam_epsilon", "adam_eps"},
    {"Axolotl does not read this key; it is spelt context_parallel_size, and training runs in one "
     "process",
     "context_parapllel_size", "0,1"},
};

}  // namespace

const std::vector<KnownKey>& refused_keys() {
  static const std::vector<KnownKey> keys = flatten(kGroups);
  return keys;
}

const std::vector<KnownKey>& refused_dataset_keys() {
  static constexpr KnownGroup kDatasetGroups[] = {
      {"use split: train[a:b] for a part of the rows", "shards shards_idx preprocess_shards",
       "0,1"},
      {"use chat_template, or give it in the file's chat_template", "conversation"},
      {"use message_property_mappings: {role: ..., content: ...}",
       "message_field_role message_field_content field_human field_model"},
      {"spans inside a message cannot be trained alone; use message_field_training",
       "message_field_training_detail"},
      {"own prompt formats are not built; type is alpaca, chat_template or completion",
       "input_format input_transform format no_input_format system_prompt system_format "
       "field_system "
       "field_instruction field_input field_output"},
  };
  static const std::vector<KnownKey> keys = flatten(kDatasetGroups);
  return keys;
}

const std::vector<Alias>& aliases() {
  static const std::vector<Alias> names = {
      {"evaluation_strategy", "eval_strategy"},
      {"model_config", "overrides_of_model_config"},
  };
  return names;
}

}  // namespace moesmith::config
