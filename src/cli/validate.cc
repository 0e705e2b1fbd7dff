// SPDX-License-Identifier: Apache-2.0
// moesmith validate: reads and checks a configuration, and prints what the schema knows.
#include "cli/command.h"
#include "cli/terminal.h"
#include "config/schema.h"
#include "core/text.h"

namespace moesmith::cli {
namespace {

int run(const Arguments& arguments) {
  if (arguments.has("markdown")) {
    print_text(config::reference_page());
    return kDone;
  }
  if (arguments.has("json-schema")) {
    print_text(config::json_schema_document());
    return kDone;
  }
  if (arguments.config_file.empty()) {
    throw Error(ErrorCode::kInvalidInput,
                "got no configuration, expected: moesmith validate CONFIG.yml");
  }
  const auto purpose =
      arguments.has("model-only") ? config::Purpose::kModel : config::Purpose::kTrain;
  const config::Config config = read_config(arguments, purpose);
  if (arguments.has("print")) {
    print_text(config::resolved_yaml(config));
  } else {
    print_line(str(arguments.config_file, ": valid, ", config.given.size(), " keys have values"));
  }
  return kDone;
}

}  // namespace

Command validate_command() {
  return {"validate",
          "Checks a configuration without reading model or data.",
          "Types, ranges, rules that join keys and unknown names are checked; the first mistake is "
          "reported\n"
          "with file, line and column.",
          false,
          true,
          {{"print", "", "Print every key with the value it comes to, as YAML."},
           {"model-only", "", "Ask only for what inference and merge-lora need."},
           {"json-schema", "", "Print the JSON schema of configurations, for editors."},
           {"markdown", "", "Print the reference page."}},
          run};
}

}  // namespace moesmith::cli
