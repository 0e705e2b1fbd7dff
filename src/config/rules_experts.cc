// SPDX-License-Identifier: Apache-2.0
// Rules of the experts: one implementation is meant, or the file contradicts itself. Nothing is
// ever replaced by another implementation.
#include <array>
#include <tuple>

#include "config/rules.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

// As users write them; whether one can run is the planner's matter.
const std::vector<std::string>& implementations() {
  static const std::vector<std::string> names = {"eager",      "batched_mm", "grouped_mm",
                                                 "scattermoe", "sonicmoe",   "auto"};
  return names;
}

void check_name(const Config& config, const std::string& key, const std::string& name) {
  std::string known;
  for (const std::string& implementation : implementations()) {
    if (implementation == name) {
      return;
    }
    known += (known.empty() ? "" : ", ") + implementation;
  }
  if (name.rfind("deep_ep", 0) == 0) {
    fail(place(config, key),
         str(key, ": ", name, " spreads experts over several processes, which is not built"));
  }
  const std::string meant = nearest(name, implementations());
  fail(place(config, key), str(key, ": got \"", name, "\", expected one of ", known,
                               meant.empty() ? "" : "; did you mean " + meant + "?"));
}

struct Plugin {
  std::string_view name;  // the last part of axolotl.integrations.<package>.<name>
  std::string_view says;  // "" : its keys are honoured
  bool refused;
};
constexpr std::array kPlugins = {
    Plugin{"KernelsPlugin", "", false},
    Plugin{"LigerPlugin", "its kernels exist on GPUs only", false},
    Plugin{"CutCrossEntropyPlugin", "the loss never holds full logits anyway", false},
    Plugin{"ExpertParallelPlugin", "training runs in one process", false},
    Plugin{"SwanLabPlugin", "metrics go to trainer_log.jsonl and to no service", false},
    Plugin{"LMEvalPlugin", "evaluation reports the loss and perplexity only", false},
    Plugin{"SpectrumPlugin", "training a choice of layers is not built", true},
    Plugin{"KDPlugin", "distillation is not built", true},
    Plugin{"GrokfastPlugin", "the optimiser is AdamW", true},
    Plugin{"LLMCompressorPlugin", "quantised and sparse weights are not built", true},
    Plugin{"DiffusionPlugin", "diffusion training is not built", true},
    Plugin{"DenseMixerPlugin", "routing belongs to the model", true},
    Plugin{"NemoGymPlugin", "reinforcement learning is not built", true},
};

void plugin_rule(Config& config) {
  for (const std::string& name : config.surface.plugins) {
    const std::string last = name.substr(name.rfind('.') + 1);
    const Plugin* known = nullptr;
    for (const Plugin& plugin : kPlugins) {
      known = plugin.name == last ? &plugin : known;
    }
    if (known == nullptr || known->refused) {
      fail(place(config, "plugins"),
           str("plugins: ", name, ": ",
               known ? known->says : "plug-ins cannot be loaded here; remove it"));
    }
    if (!known->says.empty()) {
      config.notices.push_back(str("no effect here: plug-in ", name, " (", known->says, ")"));
    }
  }
}

}  // namespace

void apply_experts_rules(Config& config) {
  const SurfaceKeys keys = config.surface;
  std::string name;  // what has been asked for so far
  std::string key;   // by which key
  const auto ask = [&](const std::string& by, const std::string& wanted) {
    if (!name.empty() && name != wanted) {
      fail(place(config, by),
           str(by, " asks for ", wanted, ", but ", key, " for ", name, "; give one"));
    }
    name = wanted;
    key = by;
  };
  for (const auto& [by, wanted] :
       {std::pair{"experts_implementation", &keys.experts_implementation},
        std::pair{"expert_backend", &keys.expert_backend}}) {
    if (!wanted->empty()) {
      check_name(config, by, *wanted);
      ask(by, *wanted);
    }
  }
  for (const auto& [by, flag, wanted] :
       {std::tuple{"use_scattermoe", keys.use_scattermoe, "scattermoe"},
        std::tuple{"use_sonicmoe", keys.use_sonicmoe, "sonicmoe"}}) {
    if (flag.value_or(false)) {
      ask(by, wanted);
      if (!keys.use_kernels.value_or(true)) {
        fail(place(config, "use_kernels"), str("use_kernels: false contradicts ", by, ": true"));
      }
    } else if (flag && name == wanted) {
      fail(place(config, by), str(by, ": false contradicts ", key, ": ", wanted));
    }
  }
  config.model.experts_implementation = name.empty() ? "auto" : name;
  config.surface.experts_implementation = config.model.experts_implementation;
  if (keys.expert_parallel_size > 1) {
    fail(place(config, "expert_parallel_size"),
         str("expert_parallel_size is ", keys.expert_parallel_size,
             ", but this command is one process; expected 1"));
  }
  plugin_rule(config);
}

}  // namespace moesmith::config
