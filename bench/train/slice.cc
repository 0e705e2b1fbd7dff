// SPDX-License-Identifier: Apache-2.0
#include "train/slice.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/text.h"
#include "moesmith/dtype.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

constexpr std::int64_t kVocab = 4096, kHidden = 2048, kInter = 768, kExperts = 128, kHeads = 32,
                       kKvHeads = 4, kHeadDim = 128;

struct Entry {
  std::string name;
  std::int64_t rows, cols;  // cols 0: a vector
  bool norm() const { return cols == 0; }
  std::int64_t numel() const { return norm() ? rows : rows * cols; }
};

std::vector<Entry> entries_of(std::int64_t layers) {
  std::vector<Entry> entries = {{"model.embed_tokens.weight", kVocab, kHidden},
                                {"lm_head.weight", kVocab, kHidden},
                                {"model.norm.weight", kHidden, 0}};
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string at = str("model.layers.", layer, ".");
    entries.push_back({at + "input_layernorm.weight", kHidden, 0});
    entries.push_back({at + "post_attention_layernorm.weight", kHidden, 0});
    entries.push_back({at + "self_attn.q_norm.weight", kHeadDim, 0});
    entries.push_back({at + "self_attn.k_norm.weight", kHeadDim, 0});
    entries.push_back({at + "self_attn.q_proj.weight", kHeads * kHeadDim, kHidden});
    entries.push_back({at + "self_attn.k_proj.weight", kKvHeads * kHeadDim, kHidden});
    entries.push_back({at + "self_attn.v_proj.weight", kKvHeads * kHeadDim, kHidden});
    entries.push_back({at + "self_attn.o_proj.weight", kHidden, kHeads * kHeadDim});
    entries.push_back({at + "mlp.gate.weight", kExperts, kHidden});
    for (std::int64_t expert = 0; expert < kExperts; ++expert) {
      const std::string mine = str(at, "mlp.experts.", expert, ".");
      entries.push_back({mine + "gate_proj.weight", kInter, kHidden});
      entries.push_back({mine + "up_proj.weight", kInter, kHidden});
      entries.push_back({mine + "down_proj.weight", kHidden, kInter});
    }
  }
  return entries;
}

std::string header_of(const std::vector<Entry>& entries) {
  std::string header = "{\"__metadata__\": {\"format\": \"pt\"}";
  std::int64_t at = 0;
  for (const Entry& entry : entries) {
    const std::int64_t end = at + 2 * entry.numel();
    header += str(", \"", entry.name, "\": {\"dtype\": \"BF16\", \"shape\": [", entry.rows);
    if (!entry.norm()) header += str(", ", entry.cols);
    header += str("], \"data_offsets\": [", at, ", ", end, "]}");
    at = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

std::string config_of(std::int64_t layers) {
  return str(R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
 "vocab_size": 4096, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": )",
             layers,
             R"(, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
 "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
 "norm_topk_prob": true, "decoder_sparse_step": 1, "max_position_embeddings": 40960,
 "rope_theta": 1000000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": false, "initializer_range": 0.02, "dtype": "bfloat16"}
)");
}

std::vector<bf16> drawn_values() {
  std::vector<bf16> values((1 << 20) + 7);  // odd: no two rows of a matrix are alike
  std::uint64_t state = 1;
  for (bf16& value : values) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    value = bf16(static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-36f);
  }
  return values;
}

void write_weights(const std::filesystem::path& path, std::int64_t layers) {
  const std::vector<Entry> entries = entries_of(layers);
  const std::string header = header_of(entries);
  const std::uint64_t header_size = header.size();
  const std::vector<bf16> drawn = drawn_values();
  const std::vector<bf16> ones(kHidden, bf16(1.0f));
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&header_size), sizeof header_size);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  std::size_t from = 0;
  for (const Entry& entry : entries) {
    for (auto left = static_cast<std::size_t>(entry.numel()); left > 0;) {
      const std::vector<bf16>& values = entry.norm() ? ones : drawn;
      if (from >= values.size()) from = 0;
      const std::size_t count = std::min(left, values.size() - from);
      file.write(reinterpret_cast<const char*>(values.data() + from),
                 static_cast<std::streamsize>(count * sizeof(bf16)));
      from += count;
      left -= count;
    }
  }
  if (!file.flush()) throw Error(ErrorCode::kIo, str(path.string(), ": cannot be written"));
}

}  // namespace

void write_slice(const std::string& folder, std::int64_t layers) {
  const std::filesystem::path path(folder);
  if (std::filesystem::exists(path / "config.json")) return;
  std::filesystem::create_directories(path);
  write_weights(path / "model.safetensors", layers);
  std::ofstream(path / "config.json") << config_of(layers);  // last: it says that all is there
}

}  // namespace moesmith::bench
