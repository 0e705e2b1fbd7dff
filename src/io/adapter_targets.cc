// SPDX-License-Identifier: Apache-2.0
#include "io/adapter_targets.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/checked.h"
#include "core/text.h"
#include "io/adapter_match.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

constexpr const char* kPrefix = "base_model.model.";

template <class T>
std::vector<std::string> keys_of(const Pattern<T>& pattern) {
  std::vector<std::string> keys;
  for (const auto& entry : pattern) keys.push_back(entry.first);
  return keys;
}

// Ranks and scales of targets, with the patterns compiled once.
class Scales {
 public:
  explicit Scales(const AdapterConfig& config)
      : config_(config),
        ranks_(keys_of(config.rank_pattern), "rank_pattern"),
        alphas_(keys_of(config.alpha_pattern), "alpha_pattern") {}

  std::int64_t rank(std::string_view target) const {
    return pick(config_.rank_pattern, ranks_, config_.r, target, "rank_pattern");
  }
  double scale(std::string_view target) const {
    const double alpha =
        pick(config_.alpha_pattern, alphas_, config_.lora_alpha, target, "alpha_pattern");
    const auto r = static_cast<double>(rank(target));
    return alpha / (config_.use_rslora ? std::sqrt(r) : r);
  }

 private:
  // The first key that matches. The file has its keys sorted, so that another one may come first
  // when the adapter is loaded: two keys that disagree about a target are refused.
  template <class T>
  static T pick(const Pattern<T>& pattern,
                const PatternKeys& keys,
                T fallback,
                std::string_view target,
                const char* where) {
    const std::vector<std::size_t> found = keys.matching(target);
    if (found.empty()) return fallback;
    for (const std::size_t i : found) {
      if (pattern[i].second != pattern[found[0]].second) {
        throw Error(
            ErrorCode::kInvalidInput,
            str(where, ": ", pattern[found[0]].first, " and ", pattern[i].first, " both match ",
                target, " but say ", pattern[found[0]].second, " and ", pattern[i].second));
      }
    }
    return pattern[found[0]].second;
  }

  const AdapterConfig& config_;
  PatternKeys ranks_;
  PatternKeys alphas_;
};

AdapterSlot make_slot(const Scales& scales, std::string target, const std::string& key_stem) {
  AdapterSlot slot;
  slot.r = scales.rank(target);
  slot.scale = scales.scale(target);
  slot.key_a = kPrefix + key_stem + ".lora_A.weight";
  slot.key_b = kPrefix + key_stem + ".lora_B.weight";
  slot.target = std::move(target);
  if (slot.r <= 0) {
    throw Error(ErrorCode::kInvalidInput,
                str(slot.target, ": rank is ", slot.r, ", expected at least 1"));
  }
  return slot;
}

// Every dot-bounded suffix, shortest first: what a misspelt entry could have meant.
std::vector<std::string> suffixes_of(const std::string& name) {
  std::vector<std::string> suffixes;
  for (std::size_t dot = name.rfind('.'); dot != name.npos; dot = name.rfind('.', dot - 1)) {
    suffixes.push_back(name.substr(dot + 1));
    if (dot == 0) break;
  }
  suffixes.push_back(name);
  return suffixes;
}

[[noreturn]] void matches_nothing(const std::string& where,
                                  const std::string& entry,
                                  const std::vector<std::string>& names,
                                  const std::string& hint = "") {
  std::set<std::string> known;
  for (const std::string& name : names) {
    for (std::string& suffix : suffixes_of(name)) known.insert(std::move(suffix));
  }
  const std::vector<std::string> list(known.begin(), known.end());
  const std::string near = nearest(entry, list);
  std::set<std::string> last_parts;
  for (const std::string& name : names) last_parts.insert(suffixes_of(name)[0]);
  std::string there;
  for (const std::string& part : last_parts) there += (there.empty() ? "" : ", ") + part;
  throw Error(ErrorCode::kInvalidInput, where + ": " + entry + " matches nothing in this model" +
                                            (near.empty() ? "." : "; did you mean " + near + "?") +
                                            " There are: " + (there.empty() ? "none" : there) +
                                            hint);
}

// Before transformers 5 each expert's projections were modules; the names are still in many files.
std::string experts_hint(const std::string& entry,
                         const std::vector<AdaptableParameter>& parameters) {
  const std::string last = suffixes_of(entry)[0];
  constexpr const char* kOldNames[] = {"gate_proj", "up_proj", "gate_up_proj", "down_proj",
                                       "w1",        "w2",      "w3",           "experts"};
  if (std::find(std::begin(kOldNames), std::end(kOldNames), last) == std::end(kOldNames)) return "";
  std::set<std::string> names;
  for (const AdaptableParameter& parameter : parameters) {
    if (parameter.num_experts == 0) continue;
    const std::string module = parameter.module;
    names.insert(module.substr(module.rfind('.') + 1) + "." + parameter.name);
  }
  std::string hint;
  for (const std::string& name : names) hint += (hint.empty() ? "" : " and ") + name;
  return hint.empty()
             ? ""
             : ". The experts' projections are parameters: name " + hint + " in target_parameters";
}

void check_module_entries(const AdapterConfig& config,
                          const ModuleMatcher& matcher,
                          const std::vector<AdaptableModule>& modules,
                          const std::vector<AdaptableParameter>& parameters) {
  std::vector<std::string> names;
  for (const AdaptableModule& module : modules) names.push_back(module.name);
  for (const std::string& entry : config.target_modules.names) {
    const bool found = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return is_dotted_suffix(name, entry);
    });
    if (!found) {
      matches_nothing("target_modules", entry, names, experts_hint(entry, parameters));
    }
  }
  if (config.target_modules.regex) {
    const bool found =
        std::any_of(modules.begin(), modules.end(), [&](const AdaptableModule& module) {
          return matcher.is_named(module.name, module.is_output_embedding);
        });
    if (!found) matches_nothing("target_modules", *config.target_modules.regex, names);
  }
}

void check_parameter_entries(const AdapterConfig& config,
                             const std::vector<AdaptableParameter>& parameters) {
  if (!config.target_parameters) return;
  std::vector<std::string> names;
  for (const AdaptableParameter& parameter : parameters) {
    names.push_back(parameter.module + "." + parameter.name);
  }
  for (const std::string& entry : *config.target_parameters) {
    const bool found = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return is_dotted_suffix(name, entry);
    });
    if (!found) matches_nothing("target_parameters", entry, names);
  }
}

void add_parameters(const AdapterConfig& config,
                    const Scales& scales,
                    const std::vector<AdaptableParameter>& parameters,
                    std::vector<AdapterSlot>& slots) {
  std::set<std::string> adapted;
  for (const AdapterSlot& slot : slots) adapted.insert(slot.target);
  // PEFT wraps a module once per targeted parameter, the first one innermost.
  std::map<std::string, std::int64_t> wrappers_left;
  std::vector<const AdaptableParameter*> targeted;
  for (const AdaptableParameter& parameter : parameters) {
    if (!matches_parameter(config, parameter.module + "." + parameter.name)) continue;
    if (adapted.contains(parameter.module)) {
      throw Error(ErrorCode::kInvalidInput,
                  parameter.module + "." + parameter.name +
                      ": is named by target_parameters while its module is named by "
                      "target_modules, expected one of the two");
    }
    targeted.push_back(&parameter);
    ++wrappers_left[parameter.module];
  }
  if (!targeted.empty() && config.lora_dropout != 0) {
    throw Error(ErrorCode::kUnsupported,
                str("lora_dropout: got ", config.lora_dropout,
                    ", expected 0 with target_parameters: as in PEFT, a parameter's adapter has "
                    "no input to drop"));
  }
  for (const AdaptableParameter* parameter : targeted) {
    std::string stem = parameter->module;
    for (std::int64_t i = --wrappers_left[parameter->module]; i > 0; --i) stem += ".base_layer";
    AdapterSlot slot = make_slot(scales, parameter->module + "." + parameter->name, stem);
    slot.is_parameter = true;
    slot.num_experts = parameter->num_experts;
    slot.out = parameter->out;
    slot.in = parameter->in;
    slot.transposed = parameter->transposed;
    slots.push_back(std::move(slot));
  }
}

}  // namespace

Shape AdapterSlot::shape_a() const {
  return {checked_mul(num_experts == 0 ? 1 : num_experts, r), in};
}

Shape AdapterSlot::shape_b() const {
  return {out, checked_mul(num_experts == 0 ? 1 : num_experts, r)};
}

bool matches_module(const AdapterConfig& config, std::string_view module) {
  return ModuleMatcher(config).matches(module, is_dotted_suffix(module, "lm_head"));
}

bool matches_parameter(const AdapterConfig& config, std::string_view parameter) {
  if (!config.target_parameters) return false;
  return std::any_of(config.target_parameters->begin(), config.target_parameters->end(),
                     [&](const std::string& entry) { return is_dotted_suffix(parameter, entry); });
}

std::int64_t rank_of(const AdapterConfig& config, std::string_view target) {
  return Scales(config).rank(target);
}

double scale_of(const AdapterConfig& config, std::string_view target) {
  return Scales(config).scale(target);
}

std::vector<AdapterSlot> plan_adapter(const AdapterConfig& config,
                                      const std::vector<AdaptableModule>& modules,
                                      const std::vector<AdaptableParameter>& parameters) {
  const ModuleMatcher matcher(config);
  const Scales scales(config);
  check_module_entries(config, matcher, modules, parameters);
  check_parameter_entries(config, parameters);
  std::vector<AdapterSlot> slots;
  for (const AdaptableModule& module : modules) {
    if (!matcher.matches(module.name, module.is_output_embedding)) continue;
    AdapterSlot slot = make_slot(scales, module.name, module.name);
    slot.out = module.out;
    slot.in = module.in;
    slots.push_back(std::move(slot));
  }
  add_parameters(config, scales, parameters, slots);
  if (slots.empty()) {
    const bool named_something = !config.target_modules.empty() ||
                                 (config.target_parameters && !config.target_parameters->empty());
    throw Error(
        ErrorCode::kInvalidInput,
        named_something
            ? "the adapter's targets: exclude_modules and layers_to_transform leave nothing "
              "to adapt"
            : "the adapter's targets: target_modules and target_parameters are both empty, "
              "expected at least one name");
  }
  return slots;
}

std::vector<std::string> minimal_target_modules(const std::vector<std::string>& targets,
                                                const std::vector<std::string>& others) {
  std::set<std::string> taken;
  for (const std::string& name : others) {
    for (std::string& suffix : suffixes_of(name)) taken.insert(std::move(suffix));
  }
  std::vector<std::vector<std::string>> ordered;
  for (const std::string& target : targets) ordered.push_back(suffixes_of(target));
  std::sort(ordered.begin(), ordered.end());
  std::set<std::string> required;
  for (const std::vector<std::string>& suffixes : ordered) {
    const std::string& name = suffixes.back();
    const bool covered = std::any_of(required.begin(), required.end(), [&](const auto& suffix) {
      return is_dotted_suffix(name, suffix);
    });
    if (covered) continue;
    const auto free = std::find_if(suffixes.begin(), suffixes.end(),
                                   [&](const auto& suffix) { return !taken.contains(suffix); });
    if (free != suffixes.end()) required.insert(*free);
  }
  return {required.begin(), required.end()};
}

}  // namespace moesmith::io
