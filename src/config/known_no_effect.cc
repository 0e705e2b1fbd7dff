// SPDX-License-Identifier: Apache-2.0
// Axolotl's keys that change nothing here: said once, by name, with the reason. Grouped by reason,
// names separated by blanks.
#include "config/known.h"
#include "config/schema.h"

namespace moesmith::config {
namespace {

constexpr KnownGroup kGroups[] = {
    {"metrics go to trainer_log.jsonl and to no service",
     "use_wandb wandb_project wandb_name wandb_entity wandb_log_model wandb_watch wandb_run_id "
     "wandb_mode "
     "use_comet comet_api_key comet_experiment_config comet_experiment_key comet_mode comet_online "
     "comet_project_name comet_workspace use_mlflow mlflow_experiment_name mlflow_run_name "
     "mlflow_tracking_uri hf_mlflow_log_artifacts use_trackio trackio_project_name "
     "trackio_run_name "
     "trackio_space_id use_otel_metrics otel_metrics_host otel_metrics_port use_tensorboard "
     "use_swanlab "
     "swanlab_mode swanlab_project swanlab_experiment_name swanlab_description swanlab_workspace "
     "swanlab_log_model swanlab_log_completions swanlab_completion_max_buffer "
     "swanlab_completion_log_interval"},
    {"attention is native and never crosses samples",
     "attn_implementation flash_attention sdp_attention xformers_attention eager_attention "
     "flex_attention "
     "flex_attn_compile_kwargs sage_attention flash_attn_cross_entropy flash_attn_rms_norm "
     "flash_attn_fuse_mlp flash_attn_d512 flash_optimum fused_attn_kernel gemma4_hybrid_attn_impl "
     "large_head_attention sdpa_varlen pretrain_multipack_attn"},
    {"it chooses among kernels that exist on GPUs only",
     "tf32 lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_rms_norm "
     "liger_rms_norm_gated liger_glu_activation liger_layer_norm liger_rope "
     "liger_fused_linear_cross_entropy "
     "cut_cross_entropy use_dsv4_kernels use_glm_dsa_kernels torch_compile torch_compile_mode "
     "torch_compile_backend torch_compile_options llama4_linearized_experts"},
    {"PyTorch's memory and device handling has no counterpart",
     "device device_map max_memory gpu_memory_limit low_cpu_mem_usage "
     "experimental_skip_move_to_device "
     "gc_steps gc_collect_steps torch_empty_cache_steps accelerator_config torchdistx_path "
     "lora_on_cpu "
     "qlora_sharded_model_loading profiler_steps profiler_steps_start freeze_mm_modules"},
    {"memory is saved by gradient_checkpointing alone",
     "gradient_checkpointing_kwargs activation_offloading layer_offloading selective_checkpointing "
     "tiled_mlp "
     "tiled_mlp_num_shards tiled_mlp_use_original_mlp chunked_cross_entropy "
     "chunked_cross_entropy_num_chunks auto_find_batch_size"},
    {"norms are always computed in f32", "fp32_norms fp32_norm_classes embeddings_skip_upcast"},
    {"nothing is ever padded", "pad_to_sequence_len pad_to_multiple_of batch_flattening"},
    {"rows are tokenised anew at each start",
     "dataset_prepared_path skip_prepare_dataset remove_unused_columns dataset_processes "
     "dataset_num_proc "
     "dataset_keep_in_memory num_dataset_shards_to_save is_preprocess preprocess_iterable "
     "dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor"},
    {"packing has its own settings",
     "sample_packing_bin_size sample_packing_group_size sample_packing_eff_est "
     "sample_packing_mp_start_method sample_packing_seq_len_multiplier multipack_real_batches "
     "dataloader_drop_last total_num_tokens total_supervised_tokens"},
    {"the family comes from config.json and the tokenizer from tokenizer.json",
     "model_type type_of_model tokenizer_type tokenizer_use_fast tokenizer_legacy "
     "tokenizer_save_jinja_files cls_model_config is_falcon_derived_model is_llama_derived_model "
     "is_mistral_derived_model is_qwen_derived_model torch_dtype base_model_ignore_patterns"},
    {"no code of a checkpoint is ever run and nothing is uploaded",
     "trust_remote_code hub_model_id hub_revision hub_strategy push_dataset_to_hub "
     "hf_use_auth_token"},
    {"this file is always read strictly", "strict"},
    {"weights are always written as safetensors", "save_safetensors"},
    {"tokens per second are always logged", "include_tkps include_tokens_per_second"},
    {"merging is the command moesmith merge-lora", "merge_lora merge_method"},
    {"adapter: lora or its absence says this", "full_finetune"},
    {"samples are drawn by moesmith inference",
     "generate_samples num_generation_samples generation_do_sample generation_max_new_tokens "
     "generation_prompt_ratio generation_temperature generation_top_k generation_top_p "
     "gradio_title "
     "gradio_share gradio_server_name gradio_server_port gradio_max_new_tokens gradio_temperature"},
    {"evaluation reports the loss and perplexity only",
     "do_causal_lm_eval eval_causal_lm_metrics eval_table_size eval_max_new_tokens do_bench_eval "
     "bench_dataset bench_split"},
    {"the run is not stopped by its loss", "loss_watchdog_threshold loss_watchdog_patience"},
    {"checkpoints follow save_strategy, and Ctrl-C saves", "dynamic_checkpoint"},
    {"it has effect only with load_best_model_at_end, which is not built",
     "metric_for_best_model greater_is_better"},
    {"it has effect only with several processes",
     "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_timeout ddp_broadcast_buffers fsdp_version "
     "fsdp_final_state_dict_type fp8_enable_fsdp_float8_all_gather heads_k_stride ring_attn_func "
     "ray_run_name ray_num_workers resources_per_worker expert_parallel_backend "
     "expert_parallel_num_nvl_bytes expert_parallel_num_rdma_bytes "
     "expert_parallel_fallback_on_unsupported"},
    {"it has effect only with a quantised base, which is not built",
     "bnb_config_kwargs model_quantization_config_kwargs gptq_groupsize gptq_model_v1 "
     "gptq_disable_exllama "
     "dsv4_fp4_grouped_mode nonexpert_quantization moe_grouped_backend moe_dequant_chunk_size "
     "moe_bnb_fast "
     "dsv4_fp8_nonexpert_mode dsv4_fp8_lora_kernel dsv4_shared_mlp_lora_kernel dsv4_bf16_all "
     "gemma4_fp8_nonexpert gemma4_nf4_nonexpert nvfp4_merge_aware_start_step"},
    {"it has effect only with rl, which is not built",
     "rl_beta trl vllm dpo_beta dpo_generate_during_eval dpo_label_smoothing dpo_loss_type "
     "dpo_loss_weights "
     "dpo_norm_loss dpo_padding_free dpo_use_liger_kernel dpo_use_logits_to_keep dpo_use_weighting "
     "kto_desirable_weight kto_undesirable_weight orpo_alpha cpo_alpha simpo_gamma rpo_alpha "
     "precompute_ref_log_probs max_prompt_len center_rewards_coefficient num_labels"},
    {"it has effect only with an optimiser or method that is not built",
     "adam_beta3 adam_epsilon2 dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of "
     "qgalore_cos_threshold qgalore_gamma_proj qgalore_proj_bits qgalore_proj_group_size "
     "qgalore_proj_quant qgalore_proj_type qgalore_queue_size qgalore_rank qgalore_scale "
     "qgalore_update_proj_gap lisa_layers_attribute lisa_step_interval relora_prune_ratio "
     "relora_prune_method relora_cpu_offload jagged_restart_warmup_steps "
     "jagged_restart_anneal_steps "
     "loraplus_lr_embedding eaft_alpha eaft_k scaling_softmax_factor scaling_softmax_bias "
     "pose_max_context_len pose_num_chunks pose_split_on_token_ids mean_resizing_embeddings "
     "streaming_multipack_buffer_size pretrain_multipack_buffer_size "
     "pretraining_sample_concatenation"},
    {"only text is read", "processor_type processor_kwargs image_size image_resize_algorithm"},
    {"it belongs to Axolotl's launcher",
     "axolotl_config_path debug project_name gpu gpu_count node_count provider secrets volumes "
     "memory "
     "memory_preprocess timeout timeout_preprocess dockerfile_commands branch test_value"},
};

}  // namespace

const std::vector<KnownKey>& keys_without_effect() {
  static const std::vector<KnownKey> keys = flatten(kGroups);
  return keys;
}

const std::vector<KnownKey>& dataset_keys_without_effect() {
  static constexpr KnownGroup kDatasetGroups[] = {
      {"no code of a data set is ever run", "trust_remote_code"},
      {"files are read where they lie, without revisions", "revision"},
      {"the template is given with every property of a message",
       "message_property_mapping field_thinking template_thinking_key split_thinking"},
      {"it has effect only with rl, which is not built", "logprobs_field temperature"},
  };
  static const std::vector<KnownKey> keys = flatten(kDatasetGroups);
  return keys;
}

}  // namespace moesmith::config
