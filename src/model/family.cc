// SPDX-License-Identifier: Apache-2.0
#include "model/family.h"

#include <array>
#include <cmath>

#include "core/text.h"
#include "model/config_fields.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

const std::array<const Family*, 4>& table() {
  static const std::array<const Family*, 4> kTable = {&mixtral(), &olmoe(), &qwen2_moe(),
                                                      &qwen3_moe()};
  return kTable;
}

void check(const io::JsonRef& config, const DecoderSpec& spec) {
  if (spec.top_k > spec.num_experts) {
    throw Error(ErrorCode::kInvalidInput,
                str(config.source(), ": num_experts_per_tok: got ", spec.top_k,
                    ", expected at most the number of experts ", spec.num_experts));
  }
  if (!(spec.rms_norm_eps >= 0) || !std::isfinite(spec.rms_norm_eps)) {
    config.fail(str("rms_norm_eps: got ", spec.rms_norm_eps, ", expected 0 or more"));
  }
}

}  // namespace

std::vector<std::string_view> family_names() {
  std::vector<std::string_view> names;
  for (const Family* family : table()) names.push_back(family->model_type);
  return names;
}

const Family& find_family(std::string_view model_type) {
  std::string known;
  for (const Family* family : table()) {
    if (family->model_type == model_type) return *family;
    known += (known.empty() ? "" : ", ") + std::string(family->model_type);
  }
  throw Error(ErrorCode::kUnsupported,
              str("config.json: model_type: got \"", model_type, "\", expected one of ", known));
}

DecoderSpec read_spec(const io::JsonRef& config) {
  DecoderSpec spec;
  spec.model_type = config.at("model_type").as_string();
  find_family(spec.model_type).read(config, spec);
  check(config, spec);
  return spec;
}

io::JsonFile overlay_config(io::JsonFile config, const std::string& overrides) {
  const io::Json over = io::Json::parse(overrides, "overrides_of_model_config");
  if (!over.is_object()) {
    throw Error(ErrorCode::kInvalidInput,
                str("overrides_of_model_config: got ", over.describe(), ", expected an object"));
  }
  const io::JsonObject& members = over.as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    config.value.set(members.key(i), members.value(i));
  }
  return config;
}

}  // namespace moesmith::model
