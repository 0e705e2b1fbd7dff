// SPDX-License-Identifier: Apache-2.0
#include "tiny_model.h"

#include <sstream>

namespace moesmith::cli {
namespace {

constexpr const char* kConfig = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 257, "hidden_size": 32,
  "intermediate_size": 32, "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": true,
  "decoder_sparse_step": 1, "mlp_only_layers": [], "max_position_embeddings": 512, "rms_norm_eps": 1e-06,
  "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false,
  "initializer_range": 0.02, "use_sliding_window": false, "output_router_logits": false,
  "router_aux_loss_coef": 0.001, "eos_token_id": 256, "dtype": "float32"
})";

constexpr const char* kTokenizerConfig = R"({
  "eos_token": "<|end|>",
  "chat_template": "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
})";

// Byte-level BPE without merges: byte b is token b, spelt as GPT-2 spells it.
std::string tokenizer_json() {
  std::ostringstream vocab;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : next++;
    std::string text;
    if (code < 0x80) {
      text = std::string(code == '"' || code == '\\' ? "\\" : "") + static_cast<char>(code);
    } else {
      text = {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
    }
    vocab << (byte > 0 ? ", " : "") << '"' << text << "\": " << byte;
  }
  return R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{"id": 256, "content": "<|end|>",
 "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}], "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
 "use_regex": true}, "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
 "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "merges": [], "vocab": {)" +
         vocab.str() + ", \"<|end|>\": 256}}}";
}

}  // namespace

void write_tiny_model(const TemporaryFolder& folder) {
  folder.write("model/config.json", kConfig);
  folder.write("model/tokenizer.json", tokenizer_json());
  folder.write("model/tokenizer_config.json", kTokenizerConfig);
  std::string rows, prose;
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i);
    rows += "{\"instruction\": \"Say " + n + ".\", \"output\": \"It is " + n + ".\"}\n";
    prose += "The number " + n + " comes after the one before it. ";
  }
  folder.write("rows.jsonl", rows);
  folder.write("prose.txt", prose);
}

Outcome train_tiny_base(const TemporaryFolder& folder) {
  const std::string file =
      folder.write("base.yml",
                   "base_model: model\nreinit_weights: true\noutput_dir: base\n"
                   "datasets: [{path: prose.txt, type: completion}]\nsequence_len: 64\n"
                   "micro_batch_size: 4\nlearning_rate: 1e-2\nmax_steps: 4\nlogging_steps: 1\n"
                   "bf16: false\nsave_strategy: no\n");
  return run_command({"train", file}, {.folder = folder.path()});
}

std::string tiny_lora_yaml(const std::string& more) {
  return "base_model: base\noutput_dir: out\ndatasets: [{path: rows.jsonl, type: "
         "alpaca}]\nsequence_len: 256\n"
         "micro_batch_size: 2\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlora_target_modules: "
         "[q_proj, v_proj]\n"
         "lora_target_parameters: [experts.gate_up_proj, experts.down_proj]\nlearning_rate: "
         "1e-2\nbf16: false\n"
         "logging_steps: 1\n" +
         more;
}

}  // namespace moesmith::cli
