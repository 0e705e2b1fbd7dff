// SPDX-License-Identifier: Apache-2.0
// The schema as a whole: the sections in order, look-up by name, all names.
#include "config/schema.h"

#include "config/known.h"

namespace moesmith::config {

const std::vector<Section>& schema() {
  static const std::vector<Section> sections = [] {
    std::vector<Section> all;
    all.push_back(model_section());
    all.push_back(data_section());
    all.push_back(batch_section());
    all.push_back(optimizer_section());
    all.push_back(save_section());
    all.push_back(lora_section());
    all.push_back(experts_section());
    all.push_back(generation_section());
    return all;
  }();
  return sections;
}

const Key<Config>* find_key(std::string_view name) {
  for (const Section& section : schema()) {
    for (const Key<Config>& key : section.keys) {
      if (key.name == name) {
        return &key;
      }
    }
  }
  return nullptr;
}

std::vector<KnownKey> flatten(std::span<const KnownGroup> groups) {
  std::vector<KnownKey> keys;
  for (const KnownGroup& group : groups) {
    std::string_view rest = group.names;
    while (!rest.empty()) {
      const std::size_t blank = rest.find(' ');
      keys.push_back({rest.substr(0, blank), group.why, group.inert});
      rest = blank == std::string_view::npos ? "" : rest.substr(blank + 1);
    }
  }
  return keys;
}

const std::vector<std::string>& all_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Section& section : schema()) {
      for (const Key<Config>& key : section.keys) {
        all.emplace_back(key.name);
      }
    }
    for (const auto* table : {&keys_without_effect(), &refused_keys()}) {
      for (const KnownKey& key : *table) {
        all.emplace_back(key.name);
      }
    }
    return all;
  }();
  return names;
}

const std::vector<std::string>& all_dataset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& key : dataset_schema()) {
      all.emplace_back(key.name);
    }
    for (const auto* table : {&dataset_keys_without_effect(), &refused_dataset_keys()}) {
      for (const KnownKey& key : *table) {
        all.emplace_back(key.name);
      }
    }
    return all;
  }();
  return names;
}

}  // namespace moesmith::config
