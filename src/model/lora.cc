// SPDX-License-Identifier: Apache-2.0
#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/rng.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

// Past the streams of the weights, which count up from 0.
constexpr std::uint64_t kFirstStream = std::uint64_t{1} << 32;

io::Json init_of(LoraInit init) {
  switch (init) {
    case LoraInit::kGaussian:
      return "gaussian";
    case LoraInit::kRandom:
      return false;
    default:
      return true;
  }
}

io::NamePattern pattern(const std::vector<std::string>& names, const std::string& regex) {
  io::NamePattern p;
  if (!regex.empty()) {
    p.regex = regex;
  } else {
    p.names = names;
    p.is_list = true;
  }
  return p;
}

io::AdapterConfig config_of(const LoraOptions& options) {
  io::AdapterConfig config;
  config.r = options.lora_r;
  config.lora_alpha = static_cast<double>(options.lora_alpha);
  config.lora_dropout = options.lora_dropout;
  config.use_rslora = options.peft_use_rslora;
  config.init_lora_weights = init_of(options.peft_init_lora_weights);
  config.target_modules = pattern(options.lora_target_modules, options.lora_target_modules_regex);
  if (options.lora_target_linear) {
    if (!options.lora_target_modules.empty() || !options.lora_target_modules_regex.empty()) {
      throw Error(ErrorCode::kInvalidInput,
                  "lora_target_linear: got true beside lora_target_modules, expected one of them");
    }
    config.target_modules = pattern({}, "all-linear");
  }
  if (!options.lora_exclude_modules.empty() || !options.lora_exclude_modules_regex.empty()) {
    config.exclude_modules =
        pattern(options.lora_exclude_modules, options.lora_exclude_modules_regex);
  }
  if (!options.lora_target_parameters.empty()) {
    config.target_parameters = options.lora_target_parameters;
  }
  config.rank_pattern = options.lora_rank_pattern;
  for (const auto& [name, alpha] : options.lora_alpha_pattern) {
    config.alpha_pattern.emplace_back(name, static_cast<double>(alpha));
  }
  config.layers_to_transform = options.peft_layers_to_transform;
  config.layers_pattern = options.peft_layers_pattern;
  return config;
}

// PEFT writes "all-linear" as the names it stands for.
void spell_out_all_linear(const std::vector<io::AdaptableModule>& modules,
                          const std::vector<io::AdapterSlot>& slots,
                          io::AdapterConfig& config) {
  if (config.target_modules.regex != "all-linear") return;
  std::vector<std::string> targets, others;
  for (const io::AdapterSlot& slot : slots) {
    if (!slot.is_parameter) targets.push_back(slot.target);
  }
  for (const io::AdaptableModule& module : modules) {
    if (std::find(targets.begin(), targets.end(), module.name) == targets.end()) {
      others.push_back(module.name);
    }
  }
  config.target_modules = pattern(io::minimal_target_modules(targets, others), "");
}

std::span<float> values_of(Tensor& t) {
  return {t.data<float>(), static_cast<std::size_t>(t.numel())};
}

void fill_uniform(Tensor& t, float bound, std::uint64_t seed, std::uint64_t stream) {
  Rng(seed, stream).uniforms(0, values_of(t));
  for (float& value : values_of(t)) value = bound * (2.0f * value - 1.0f);
}

// nn.Linear's start: kaiming_uniform(a = sqrt 5) is uniform within 1 / sqrt(fan_in).
void fill_as_linear(Tensor& t, std::uint64_t seed, std::uint64_t stream) {
  fill_uniform(t, 1.0f / std::sqrt(static_cast<float>(t.dim(1))), seed, stream);
}

io::AdapterFactors draw(const io::AdapterSlot& slot,
                        const io::Json& init,
                        std::uint64_t seed,
                        std::uint64_t stream) {
  io::AdapterFactors f{Tensor::zeros(slot.shape_a(), DType::kF32),
                       Tensor::zeros(slot.shape_b(), DType::kF32)};
  if (init.is_string()) {
    Rng(seed, stream).normals(0, values_of(f.a));
    for (float& value : values_of(f.a)) value /= static_cast<float>(slot.r);
    return f;
  }
  fill_as_linear(f.a, seed, stream);
  if (init.is_bool() && !init.as_bool()) fill_as_linear(f.b, seed, stream + 1);
  return f;
}

Parameter parameter(const std::string& name, Tensor value, bool trainable) {
  Parameter p;
  p.name = name;
  p.shape = value.shape();
  p.trainable = trainable;
  p.value = std::move(value);
  if (trainable) {
    p.master = p.value;
    p.grad = Tensor::zeros(p.shape, DType::kF32);
  }
  return p;
}

}  // namespace

std::vector<io::AdaptableModule> adaptable_modules(const DecoderSpec& spec) {
  std::vector<io::AdaptableModule> list;
  const std::int64_t h = spec.hidden_size;
  const auto mlp = [&](const std::string& prefix, std::int64_t inter) {
    list.push_back({prefix + "gate_proj", inter, h});
    list.push_back({prefix + "up_proj", inter, h});
    list.push_back({prefix + "down_proj", h, inter});
  };
  for (std::int64_t i = 0; i < spec.num_layers(); ++i) {
    const std::string layer = str("model.layers.", i, ".");
    list.push_back({layer + "self_attn.q_proj", spec.q_width(), h});
    list.push_back({layer + "self_attn.k_proj", spec.kv_width(), h});
    list.push_back({layer + "self_attn.v_proj", spec.kv_width(), h});
    list.push_back({layer + "self_attn.o_proj", h, spec.q_width()});
    if (!spec.layers[static_cast<std::size_t>(i)].sparse) {
      mlp(layer + "mlp.", spec.dense_intermediate);
    } else if (spec.shared_intermediate > 0) {
      mlp(layer + "mlp.shared_expert.", spec.shared_intermediate);
      list.push_back({layer + "mlp.shared_expert_gate", 1, h});
    }
  }
  list.push_back({"lm_head", spec.vocab_size, h, true});
  return list;
}

std::vector<io::AdaptableParameter> adaptable_parameters(const DecoderSpec& spec) {
  std::vector<io::AdaptableParameter> list;
  const std::int64_t e = spec.num_experts, h = spec.hidden_size, i = spec.expert_intermediate;
  for (std::int64_t l = 0; l < spec.num_layers(); ++l) {
    if (!spec.layers[static_cast<std::size_t>(l)].sparse) continue;
    const std::string mlp = str("model.layers.", l, ".mlp.");
    list.push_back({mlp + "gate", "weight", 0, e, h});
    list.push_back({mlp + "experts", "gate_up_proj", e, 2 * i, h});
    list.push_back({mlp + "experts", "down_proj", e, h, i});
  }
  return list;
}

AdapterPlan plan_lora(const DecoderSpec& spec, const LoraOptions& options) {
  AdapterPlan plan;
  plan.config = options.lora_model_dir.empty() ? config_of(options)
                                               : io::read_adapter_config(options.lora_model_dir);
  const auto modules = adaptable_modules(spec);
  plan.slots = io::plan_adapter(plan.config, modules, adaptable_parameters(spec));
  spell_out_all_linear(modules, plan.slots, plan.config);
  return plan;
}

std::deque<Lora> make_lora(const AdapterPlan& plan,
                           const LoraOptions& options,
                           std::uint64_t seed,
                           bool trainable) {
  std::vector<io::AdapterFactors> factors;
  if (!options.lora_model_dir.empty()) {
    factors = io::read_adapter(options.lora_model_dir, plan.config, plan.slots);
  } else {
    for (std::size_t i = 0; i < plan.slots.size(); ++i) {
      factors.push_back(
          draw(plan.slots[i], plan.config.init_lora_weights, seed, kFirstStream + 2 * i));
    }
  }
  std::deque<Lora> list;
  for (std::size_t i = 0; i < plan.slots.size(); ++i) {
    const io::AdapterSlot& slot = plan.slots[i];
    list.push_back({slot,
                    parameter(slot.key_a, std::move(factors[i].a), trainable),
                    parameter(slot.key_b, std::move(factors[i].b), trainable),
                    {},
                    {}});
  }
  return list;
}

}  // namespace moesmith::model
