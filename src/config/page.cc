// SPDX-License-Identifier: Apache-2.0
// What the schema says, for readers: --help, the reference page, the JSON schema.
#include <map>

#include "config/scalar.h"
#include "config/schema.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

std::string dashed(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    c = c == '_' ? '-' : c;
  }
  return out;
}

// Breaks at blanks so that no line passes 100 columns; continuation lines start at `indent`.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::size_t blank = text.find(' ');
    const std::string_view word = text.substr(0, blank);
    if (column > indent && column + 1 + word.size() > 100) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text = blank == std::string_view::npos ? "" : text.substr(blank + 1);
  }
  return out;
}

// "|" ends a cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '|' ? "\\|" : std::string(1, c);
  }
  return out;
}

template <class Object>
std::string table(const std::vector<Key<Object>>& keys) {
  const Object defaults{};
  std::string out = "| Key | Type | Default | What it does |\n| --- | --- | --- | --- |\n";
  for (const Key<Object>& key : keys) {
    const std::string value = key.show(defaults);
    out += str("| `", key.name, "` | ", cell(type_label(key.type)), " | ",
               value.empty() || key.required ? "" : "`" + cell(value) + "`", " | ", cell(key.help),
               " |\n");
  }
  return out;
}

std::string known_table(const std::vector<KnownKey>& keys) {
  std::vector<std::string_view> order;
  std::map<std::string_view, std::string> names;
  for (const KnownKey& key : keys) {
    std::string& list = names[key.why];
    if (list.empty()) {
      order.push_back(key.why);
    }
    list += (list.empty() ? "`" : ", `") + std::string(key.name) + "`";
  }
  std::string out = "| Why | Keys |\n| --- | --- |\n";
  for (const std::string_view why : order) {
    out += str("| ", cell(why), " | ", names[why], " |\n");
  }
  return out;
}

template <class Object>
std::string properties(const std::vector<Key<Object>>& keys, std::string_view indent) {
  std::string out;
  for (const Key<Object>& key : keys) {
    const std::string schema = json_schema(key.type);
    // The description joins the members of the type's own object.
    out += str(out.empty() ? "" : ",\n", indent, json_text(key.name),
               ": {\"description\": ", json_text(key.help), ", ", schema.substr(1));
  }
  return out;
}

constexpr std::string_view kIntroduction =
    "# Configuration\n\n"
    "Generated from the schema by `moesmith validate --markdown`; a test compares the two.\n\n"
    "A run is one YAML file with Axolotl's key names. Each key is also a flag that beats the file: "
    "`--lora-r 16`,\n`--lora_r=16`, `--lora-target-modules q_proj,k_proj`, `--sample-packing`, "
    "`--no-sample-packing`,\n`--datasets.0.path rows.jsonl`. `moesmith validate run.yml` checks a "
    "file, "
    "`--print` shows every key with its value.\n\n"
    "Values are typed before any rule looks at them: `\"false\"` is false, `\"2\"` is 2, `2e-4` is "
    "a number, "
    "yes and no are\nbooleans, an empty value is the default. A key of Axolotl's that changes "
    "nothing here is "
    "said once, by name; one that\nwould change the result and is not built is an error, and so is "
    "a key "
    "that nobody knows.\n";

}  // namespace

std::string flags_help() {
  constexpr std::size_t kIndent = 36;
  const Config defaults;
  std::string out;
  for (const Section& section : schema()) {
    out += str(section.title, ":\n");
    for (const Key<Config>& key : section.keys) {
      std::string flag = "  --" + dashed(key.name);
      const std::string value = key.show(defaults);
      const bool structured = value.empty() || value[0] == '[' || value[0] == '{' || key.required;
      const std::string help =
          str(key.help, " (", type_label(key.type), structured ? "" : "; default " + value, ")");
      flag += flag.size() + 2 > kIndent ? "\n" + std::string(kIndent, ' ')
                                        : std::string(kIndent - flag.size(), ' ');
      out += flag + wrapped(help, kIndent) + "\n";
    }
    out += "\n";
  }
  return out;
}

std::string reference_page() {
  std::string out(kIntroduction);
  for (const Section& section : schema()) {
    out += str("\n## ", section.title, "\n\n", table(section.keys));
    if (section.title == "Data") {
      out += "\n### An entry of datasets and test_datasets\n\n" + table(dataset_schema());
    }
  }
  out += "\n## Other spellings\n\n| Key | Same as |\n| --- | --- |\n";
  for (const Alias& alias : aliases()) {
    out += str("| `", alias.name, "` | `", alias.key, "` |\n");
  }
  out +=
      "\n## Keys of Axolotl's without effect\n\nAccepted; a line at the start names those that "
      "have a "
      "value.\n\n" +
      known_table(keys_without_effect()) + "\nIn an entry of `datasets`:\n\n" +
      known_table(dataset_keys_without_effect());
  out +=
      "\n## Keys of Axolotl's that are refused\n\nAn error unless the value asks for nothing "
      "(empty, "
      "`false`, or a neutral number such as a world size of 1).\n\n" +
      known_table(refused_keys()) + "\nIn an entry of `datasets`:\n\n" +
      known_table(refused_dataset_keys());
  return out;
}

std::string json_schema_document() {
  std::string keys;
  for (const Section& section : schema()) {
    keys += (keys.empty() ? "" : ",\n") + properties(section.keys, "    ");
  }
  std::string others;
  for (const auto* known : {&keys_without_effect(), &refused_keys()}) {
    for (const KnownKey& key : *known) {
      others +=
          str(",\n    ", json_text(key.name), ": {\"description\": ", json_text(key.why), "}");
    }
  }
  for (const Alias& alias : aliases()) {
    others +=
        str(",\n    ", json_text(alias.name), ": {\"$ref\": \"#/properties/", alias.key, "\"}");
  }
  std::string dataset_others;
  for (const auto* known : {&dataset_keys_without_effect(), &refused_dataset_keys()}) {
    for (const KnownKey& key : *known) {
      dataset_others +=
          str(",\n        ", json_text(key.name), ": {\"description\": ", json_text(key.why), "}");
    }
  }
  return str(
      "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
      "  \"title\": \"Moesmith configuration\",\n  \"type\": \"object\",\n"
      "  \"required\": [\"base_model\"],\n  \"additionalProperties\": false,\n  \"properties\": "
      "{\n",
      keys, others,
      "\n  },\n  \"$defs\": {\n    \"dataset\": {\n      \"type\": \"object\",\n"
      "      \"required\": [\"path\", \"type\"],\n      \"additionalProperties\": false,\n"
      "      \"properties\": {\n",
      properties(dataset_schema(), "        "), dataset_others, "\n      }\n    }\n  }\n}\n");
}

}  // namespace moesmith::config
