// SPDX-License-Identifier: Apache-2.0
#include "model/config_fields.h"

#include <algorithm>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

// Keeps every product of two sizes within 64 bits and a hostile file from asking for the
// impossible.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;
constexpr std::int64_t kMaxLayers = 4096;

void refuse_unless_zero(const io::JsonRef& config, std::string_view key) {
  const double value = config.get_number(key, 0.0);
  if (value != 0.0) {
    throw Error(ErrorCode::kUnsupported,
                str(config.source(), ": ", key, ": got ", value, ", expected 0 (not built)"));
  }
}

}  // namespace

std::int64_t positive(const io::JsonRef& config,
                      std::initializer_list<std::string_view> keys,
                      std::int64_t fallback) {
  for (const std::string_view key : keys) {
    if (const auto field = config.find(key)) {
      const std::int64_t value = field->as_integer();
      if (value < 1 || value > kMaxSize) {
        field->fail(str("got ", value, ", expected 1 to ", kMaxSize));
      }
      return value;
    }
  }
  if (fallback > 0) return fallback;
  throw Error(ErrorCode::kInvalidInput,
              str(config.source(), ": ", *keys.begin(), ": missing, expected a positive integer"));
}

void read_common(const io::JsonRef& config, const CommonDefaults& defaults, DecoderSpec& spec) {
  spec.vocab_size = positive(config, {"vocab_size"});
  spec.hidden_size = positive(config, {"hidden_size"});
  spec.max_position_embeddings = positive(config, {"max_position_embeddings"});
  spec.num_heads = positive(config, {"num_attention_heads"});
  spec.num_kv_heads =
      positive(config, {"num_key_value_heads"},
               defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : spec.num_heads);
  if (spec.num_heads % spec.num_kv_heads != 0) {
    throw Error(ErrorCode::kInvalidInput,
                str(config.source(), ": num_attention_heads: got ", spec.num_heads,
                    ", expected a multiple of num_key_value_heads ", spec.num_kv_heads));
  }
  if (!config.has("head_dim") && spec.hidden_size % spec.num_heads != 0) {
    throw Error(ErrorCode::kInvalidInput,
                str(config.source(), ": hidden_size: got ", spec.hidden_size,
                    ", expected a multiple of num_attention_heads ", spec.num_heads));
  }
  spec.head_dim =
      positive(config, {"head_dim"}, std::max<std::int64_t>(1, spec.hidden_size / spec.num_heads));
  if (spec.head_dim % 2 != 0) {
    throw Error(ErrorCode::kInvalidInput, str(config.source(), ": head_dim: got ", spec.head_dim,
                                              ", expected an even number"));
  }
  const std::int64_t num_layers = positive(config, {"num_hidden_layers"});
  if (num_layers > kMaxLayers) {
    throw Error(ErrorCode::kInvalidInput, str(config.source(), ": num_hidden_layers: got ",
                                              num_layers, ", expected at most ", kMaxLayers));
  }
  spec.layers.assign(static_cast<std::size_t>(num_layers), LayerSpec{});
  spec.rms_norm_eps = static_cast<float>(config.get_number("rms_norm_eps", defaults.rms_norm_eps));
  spec.tie_word_embeddings = config.get_bool("tie_word_embeddings", false);
  spec.initializer_range = config.get_number("initializer_range", 0.02);
  spec.output_router_logits = config.get_bool("output_router_logits", false);
  spec.router_aux_loss_coef =
      config.get_number("router_aux_loss_coef", defaults.router_aux_loss_coef);
  spec.rope = read_rope(config, spec.head_dim, defaults.rope_theta);
  const std::string act = config.get_string("hidden_act", "silu");
  if (act != "silu" && act != "swish") {
    throw Error(ErrorCode::kUnsupported,
                str(config.source(), ": hidden_act: got \"", act, "\", expected \"silu\""));
  }
  refuse_unless_zero(config, "attention_dropout");
  refuse_unless_zero(config, "router_jitter_noise");
  if (config.has("quantization_config")) {
    throw Error(ErrorCode::kUnsupported,
                str(config.source(),
                    ": quantization_config: quantised checkpoints are not built, "
                    "expected F32, F16 or BF16 weights"));
  }
}

void read_sparse_layers(const io::JsonRef& config, DecoderSpec& spec) {
  const std::int64_t step = positive(config, {"decoder_sparse_step"}, 1);
  for (std::int64_t i = 0; i < spec.num_layers(); ++i) {
    spec.layers[static_cast<std::size_t>(i)].sparse = (i + 1) % step == 0;
  }
  const auto dense = config.find("mlp_only_layers");
  if (!dense) return;
  for (const std::int64_t i : dense->as_integers()) {
    if (i >= 0 && i < spec.num_layers()) spec.layers[static_cast<std::size_t>(i)].sparse = false;
  }
}

}  // namespace moesmith::model
