// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/rng.h"

namespace moesmith::model {

std::string golden_folder(const std::string& name) {
  return std::string(MOESMITH_TEST_DATA) + "/goldens/" + name;
}

const std::vector<std::string>& golden_names() {
  static const std::vector<std::string> kNames = {"qwen3_moe",
                                                  "qwen2_moe",
                                                  "mixtral",
                                                  "olmoe",
                                                  "qwen3_moe_nonsquare",
                                                  "qwen3_moe_dense_tied_yarn",
                                                  "qwen2_moe_sparse_step_window",
                                                  "mixtral_window_rslora_pattern",
                                                  "qwen3_moe_aux_router_adapter"};
  return kNames;
}

LoadRequest request_for(const std::string& name, TrainMode mode, ComputeDType dtype) {
  LoadRequest request;
  request.folder = golden_folder(name) + "/model";
  request.model.compute_dtype = dtype;
  request.model.experts_implementation = "eager";
  request.mode = mode;
  return request;
}

LoadRequest adapter_request(const std::string& name,
                            ComputeDType dtype,
                            const std::string& adapter) {
  LoadRequest request = request_for(name, TrainMode::kAdapter, dtype);
  request.lora.enabled = true;
  request.lora.lora_model_dir = golden_folder(name) + "/" + adapter;
  return request;
}

Batch make_batch(const std::vector<std::int64_t>& lengths,
                 std::int64_t vocab,
                 std::uint64_t stream) {
  const Rng rng(7, stream);
  Batch batch;
  batch.segment_offsets.push_back(0);
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      batch.input_ids.push_back(static_cast<std::int32_t>(
          rng.below(batch.input_ids.size(), static_cast<std::uint64_t>(vocab))));
      batch.position_ids.push_back(static_cast<std::int32_t>(i));
    }
    batch.segment_offsets.push_back(static_cast<std::int64_t>(batch.input_ids.size()));
  }
  batch.labels.assign(batch.input_ids.size(), kIgnoreLabel);
  for (std::size_t s = 0; s + 1 < batch.segment_offsets.size(); ++s) {
    const auto end = static_cast<std::size_t>(batch.segment_offsets[s + 1]);
    for (auto i = static_cast<std::size_t>(batch.segment_offsets[s]); i + 1 < end; ++i) {
      batch.labels[i] = batch.input_ids[i + 1];
    }
  }
  return batch;
}

Batch sample_of(const Batch& batch, std::size_t s) {
  const auto begin = batch.segment_offsets[s], end = batch.segment_offsets[s + 1];
  const auto part = [&](const std::vector<std::int32_t>& v) {
    return std::vector<std::int32_t>(v.begin() + begin, v.begin() + end);
  };
  return {part(batch.input_ids), part(batch.position_ids), {0, end - begin}, part(batch.labels)};
}

std::vector<float> gradients_of(CausalLM& model) {
  std::vector<float> all;
  for (const Parameter* p : model.parameters()) {
    if (!p->trainable) continue;
    const auto values = values_of(p->grad);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

void zero_gradients(CausalLM& model) {
  for (Parameter* p : model.parameters()) {
    if (p->trainable) std::fill_n(p->grad.data<float>(), p->grad.numel(), 0.0f);
  }
}

std::vector<float> values_of(const Tensor& tensor) {
  const Tensor f32 = tensor.dtype() == DType::kF32 ? tensor : tensor.to(DType::kF32);
  return {f32.data<float>(), f32.data<float>() + f32.numel()};
}

bool bitwise_equal(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= error)) error = d;
    scale = std::max(scale, std::abs(static_cast<double>(b[i])));
  }
  return error / scale;
}

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "moesmith-model-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::copy_model(const std::string& name) const {
  const std::string to = path_ + "/model";
  std::filesystem::copy(golden_folder(name) + "/model", to,
                        std::filesystem::copy_options::recursive);
  return to;
}

}  // namespace moesmith::model
