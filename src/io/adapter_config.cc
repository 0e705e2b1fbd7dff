// SPDX-License-Identifier: Apache-2.0
// adapter_config.json: reading with refusals, and writing with the keys and order of PEFT 0.21.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "io/adapter.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

// What PEFT 0.21 writes for every setting that AdapterConfig has no member for.
constexpr const char* kDefaults = R"({
  "alora_invocation_tokens": null, "arrow_config": null, "auto_mapping": null, "bias": "none",
  "corda_config": null, "ensure_weight_tying": false, "eva_config": null, "fan_in_fan_out": false,
  "inference_mode": true, "kasa_config": null, "layer_replication": null, "loftq_config": {},
  "lora_bias": false, "lora_ga_config": null, "megatron_config": null,
  "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
  "peft_type": "LORA", "qalora_group_size": 16, "trainable_token_indices": null,
  "use_bdlora": null, "use_dora": false, "use_qalora": false, "velora_config": null})";

[[noreturn]] void refuse(const JsonRef& root, const std::string& key, const std::string& why) {
  throw Error(ErrorCode::kUnsupported,
              root.source() + ": " + key + ": got " + root.at(key).value().describe() + ", " + why);
}

bool is_set(const JsonRef& root, const char* key) {
  const auto found = root.find(key);
  if (!found) return false;
  const Json& value = found->value();
  if (value.is_bool()) return value.as_bool();
  if (value.is_array() || value.is_object()) return found->size() > 0;
  return true;
}

// Everything that would change the numbers if it were passed over.
void refuse_what_is_not_built(const JsonRef& root) {
  if (const std::string type = root.at("peft_type").as_string(); type != "LORA") {
    refuse(root, "peft_type", "expected LORA, the only adapter type that is read");
  }
  if (root.get_string("bias", "none") != "none") {
    refuse(root, "bias", "expected none: adapters with trained biases are not read");
  }
  constexpr std::pair<const char*, const char*> kSwitches[] = {
      {"use_dora", "expected false: DoRA is not built"},
      {"lora_bias", "expected false: LoRA factors with a bias are not built"},
      {"use_qalora", "expected false: QALoRA is not built"},
      {"use_bdlora", "expected null: block-diagonal LoRA is not built"},
      {"modules_to_save", "expected null: modules trained as a whole are not read from adapters"},
      {"trainable_token_indices", "expected null: trained token embeddings are not read"},
      {"layer_replication", "expected null: replicated layers are not built"},
      {"alora_invocation_tokens", "expected null: activated LoRA is not built"},
      {"arrow_config", "expected null: Arrow routing is not built"},
      {"kasa_config", "expected null: KaSA is not built"},
      {"monteclora_config", "expected null: MonteCLoRA is not built"},
      {"velora_config", "expected null: VeLoRA is not built"},
  };
  for (const auto& [key, why] : kSwitches) {
    if (is_set(root, key)) refuse(root, key, why);
  }
  if (const auto init = root.find("init_lora_weights"); init && init->value().is_string()) {
    std::string name = init->as_string();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (name != "gaussian" && name != "eva" && name != "orthogonal") {
      refuse(root, "init_lora_weights",
             "expected true, false, gaussian, eva or orthogonal: this one also changes the base "
             "weights");
    }
  }
}

std::optional<std::string> optional_string(const JsonRef& root, const char* key) {
  const auto found = root.find(key);
  return found ? std::optional(found->as_string()) : std::nullopt;
}

NamePattern read_names(const JsonRef& root, const char* key) {
  NamePattern pattern;
  const auto found = root.find(key);
  if (!found) return pattern;
  if (found->value().is_string()) {
    pattern.regex = found->as_string();
  } else {
    pattern.is_list = true;
    pattern.names = found->as_strings();
  }
  return pattern;
}

template <class T, class Read>
Pattern<T> read_pattern(const JsonRef& root, const char* key, Read read) {
  Pattern<T> pattern;
  const auto found = root.find(key);
  if (!found) return pattern;
  if (!found->value().is_object()) {
    found->fail("got " + found->value().describe() + ", expected an object");
  }
  const JsonObject& members = found->value().as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    pattern.emplace_back(members.key(i), read(found->at(members.key(i))));
  }
  return pattern;
}

std::int64_t read_rank(const JsonRef& value) {
  const std::int64_t r = value.as_integer();
  if (r <= 0) value.fail("got " + std::to_string(r) + ", expected a rank of at least 1");
  return r;
}

double read_number(const JsonRef& value) {
  const double number = value.as_number();
  if (!std::isfinite(number))
    value.fail("got " + value.value().dump() + ", expected a finite number");
  return number;
}

Json number_json(double value) {
  if (std::floor(value) == value && std::fabs(value) < 9e15) {
    return Json(static_cast<std::int64_t>(value));
  }
  return Json(value);
}

template <class T>
Json optional_json(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json names_json(const NamePattern& pattern) {
  if (pattern.regex) return Json(*pattern.regex);
  if (pattern.names.empty() && !pattern.is_list) return Json();
  return Json::array_of(pattern.names);
}

}  // namespace

AdapterConfig AdapterConfig::from_json(const JsonFile& file) {
  const JsonRef root = file.root();
  refuse_what_is_not_built(root);
  AdapterConfig config;
  config.base_model_name_or_path = optional_string(root, "base_model_name_or_path");
  config.revision = optional_string(root, "revision");
  config.task_type = optional_string(root, "task_type");
  if (const auto r = root.find("r")) config.r = read_rank(*r);
  if (const auto alpha = root.find("lora_alpha")) config.lora_alpha = read_number(*alpha);
  if (const auto dropout = root.find("lora_dropout")) config.lora_dropout = read_number(*dropout);
  if (config.lora_dropout < 0 || config.lora_dropout >= 1) {
    root.at("lora_dropout")
        .fail("got " + Json(config.lora_dropout).dump() + ", expected 0 <= p < 1");
  }
  config.use_rslora = root.get_bool("use_rslora", false);
  if (const auto init = root.find("init_lora_weights")) config.init_lora_weights = init->value();
  config.target_modules = read_names(root, "target_modules");
  config.exclude_modules = read_names(root, "exclude_modules");
  if (const auto names = root.find("target_parameters")) {
    config.target_parameters = names->as_strings();
  }
  config.rank_pattern = read_pattern<std::int64_t>(root, "rank_pattern", read_rank);
  config.alpha_pattern = read_pattern<double>(root, "alpha_pattern", read_number);
  if (const auto layers = root.find("layers_to_transform")) {
    config.layers_to_transform = layers->value().is_integer()
                                     ? std::vector<std::int64_t>{layers->as_integer()}
                                     : layers->as_integers();
  }
  if (const auto pattern = root.find("layers_pattern")) {
    config.layers_pattern = pattern->value().is_string()
                                ? std::vector<std::string>{pattern->as_string()}
                                : pattern->as_strings();
    std::erase(config.layers_pattern, "");
  }
  config.peft_version = root.get_string("peft_version", "");
  const std::set<std::string> known = [] {
    std::set<std::string> keys;
    const Json written = AdapterConfig().to_json();
    const Json defaults = Json::parse(kDefaults, "defaults");
    for (std::size_t i = 0; i < written.as_object().size(); ++i) {
      const std::string& key = written.as_object().key(i);
      if (defaults.find(key) == nullptr) keys.insert(key);
    }
    return keys;
  }();
  const JsonObject& members = file.value.as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!known.contains(members.key(i))) config.other.set(members.key(i), members.value(i));
  }
  return config;
}

Json AdapterConfig::to_json() const {
  Json json = Json::parse(kDefaults, "defaults");
  const JsonObject& kept = other.as_object();
  for (std::size_t i = 0; i < kept.size(); ++i) json.set(kept.key(i), kept.value(i));
  json.set("inference_mode", true);
  json.set("base_model_name_or_path", optional_json(base_model_name_or_path));
  json.set("revision", optional_json(revision));
  json.set("task_type", optional_json(task_type));
  json.set("r", r);
  json.set("lora_alpha", number_json(lora_alpha));
  json.set("lora_dropout", lora_dropout);
  json.set("use_rslora", use_rslora);
  json.set("init_lora_weights", init_lora_weights);
  json.set("target_modules", names_json(target_modules));
  json.set("exclude_modules", names_json(exclude_modules));
  json.set("target_parameters", target_parameters ? Json::array_of(*target_parameters) : Json());
  Json ranks = Json::object();
  for (const auto& [key, value] : rank_pattern) ranks.set(key, value);
  json.set("rank_pattern", std::move(ranks));
  Json alphas = Json::object();
  for (const auto& [key, value] : alpha_pattern) alphas.set(key, number_json(value));
  json.set("alpha_pattern", std::move(alphas));
  json.set("layers_to_transform",
           layers_to_transform ? Json::array_of(*layers_to_transform) : Json());
  json.set("layers_pattern", layers_pattern.empty() ? Json() : Json::array_of(layers_pattern));
  json.set("peft_version", kPeftVersion);
  return json;
}

std::string AdapterConfig::dump() const { return to_json().dump({.indent = 2, .sort_keys = true}); }

AdapterConfig read_adapter_config(const std::string& folder) {
  return AdapterConfig::from_json(read_json(resolve_model(folder) + "/adapter_config.json"));
}

}  // namespace moesmith::io
