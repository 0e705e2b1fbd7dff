// SPDX-License-Identifier: Apache-2.0
// The one table of keys. Parsing, flags, --help, the reference page and the JSON schema all come
// from it; defaults are read from the option structs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/key.h"

namespace moesmith::config {

struct Section {
  std::string_view title;
  std::vector<Key<Config>> keys;
};

// The honoured keys, in the order of the reference page.
const std::vector<Section>& schema();
// The keys of one entry of `datasets` and `test_datasets`.
const std::vector<Key<train::DatasetOptions>>& dataset_schema();
// Null when no such key is honoured.
const Key<Config>* find_key(std::string_view name);

// Keys that Axolotl's files may carry and that are not honoured.
struct KnownKey {
  std::string_view name;
  // No effect: the reason, same text for all keys it holds for. Refused: what to do instead, or why
  // not.
  std::string_view why;
  // Refused only: values that ask for nothing and pass in silence, besides null and a false
  // boolean, separated by commas.
  std::string_view inert = "";
};

const std::vector<KnownKey>& keys_without_effect();
const std::vector<KnownKey>& refused_keys();
// The same for entries of `datasets`.
const std::vector<KnownKey>& dataset_keys_without_effect();
const std::vector<KnownKey>& refused_dataset_keys();

// Other spellings that Axolotl takes: {old, honoured key}.
struct Alias {
  std::string_view name;
  std::string_view key;
};
const std::vector<Alias>& aliases();

// Each name above, for the nearest one to a misspelling.
const std::vector<std::string>& all_names();
const std::vector<std::string>& all_dataset_names();

// `moesmith CMD --help`: the keys as flags, one line each, by section.
std::string flags_help();
// The reference page, Markdown.
std::string reference_page();
// JSON schema (draft 2020-12) of a configuration file.
std::string json_schema_document();

// schema_*.cc
Section model_section();
Section data_section();
Section batch_section();
Section optimizer_section();
Section save_section();
Section lora_section();
Section experts_section();
Section generation_section();

}  // namespace moesmith::config
