// SPDX-License-Identifier: Apache-2.0
// Folders of a trained model.
#include "cli/model_files.h"

#include <algorithm>
#include <filesystem>

#include "core/text.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "io/json.h"

namespace moesmith::cli {
namespace {

namespace fs = std::filesystem;

bool has_file(const std::string& folder, const char* name) {
  std::error_code ignored;
  return fs::is_regular_file(fs::path(folder) / name, ignored);
}

void add_eos(const std::string& folder, const char* name, std::vector<std::int32_t>& tokens) {
  if (!has_file(folder, name)) {
    return;
  }
  const std::string path = folder + "/" + name;
  const io::Json file = io::Json::parse(io::read_file(path), path);
  const io::Json* eos = file.find("eos_token_id");
  if (eos == nullptr) {
    return;
  }
  const auto add = [&](const io::Json& id) {
    if (id.is_integer() && id.as_integer() >= 0 && id.as_integer() <= INT32_MAX) {
      tokens.push_back(static_cast<std::int32_t>(id.as_integer()));
    }
  };
  if (eos->is_array()) {
    for (const io::Json& id : eos->as_array()) {
      add(id);
    }
  } else {
    add(*eos);
  }
}

}  // namespace

ModelFiles find_model_files(const config::Config& config) {
  const train::TrainOptions& train = config.train;
  ModelFiles files;
  if (config.lora.enabled || !config.lora.lora_model_dir.empty()) {
    files.adapter =
        config.lora.lora_model_dir.empty() ? train.output_dir : config.lora.lora_model_dir;
    if (!has_file(files.adapter, "adapter_config.json")) {
      throw Error(ErrorCode::kNotFound,
                  str(files.adapter,
                      ": no adapter_config.json here; train first, or name the adapter with "
                      "--lora-model-dir"));
    }
    files.model = io::resolve_model(train.base_model, train.revision_of_model);
  } else if (has_file(train.output_dir, "config.json") &&
             io::Checkpoint::has_weights(train.output_dir)) {
    files.model = train.output_dir;
  } else {
    files.model = io::resolve_model(train.base_model, train.revision_of_model);
  }
  files.tokenizer =
      train.tokenizer_config.empty() ? files.model : io::resolve_model(train.tokenizer_config);
  return files;
}

model::LoadRequest use_request(const config::Config& config, const ModelFiles& files) {
  model::LoadRequest request;
  request.folder = files.model;
  request.model = config.model;
  request.lora = config.lora;
  request.lora.enabled = !files.adapter.empty();
  request.lora.lora_model_dir = files.adapter;
  request.mode = model::TrainMode::kNothing;
  return request;
}

std::vector<std::int32_t> stop_tokens(const config::Config& config,
                                      const ModelFiles& files,
                                      const text::Tokenizer& tokenizer) {
  std::vector<std::int32_t> tokens;
  if (tokenizer.eos() && tokenizer.eos()->id >= 0) {
    tokens.push_back(tokenizer.eos()->id);
  }
  add_eos(files.model, "generation_config.json", tokens);
  add_eos(files.model, "config.json", tokens);
  for (const std::string& eot : config.train.eot_tokens) {
    const auto id = tokenizer.id_of(eot);
    if (!id) {
      throw Error(ErrorCode::kInvalidInput, str("eot_tokens: the tokenizer has no token ", eot));
    }
    tokens.push_back(*id);
  }
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

}  // namespace moesmith::cli
