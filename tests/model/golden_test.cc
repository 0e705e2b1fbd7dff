// SPDX-License-Identifier: Apache-2.0
// The golden data of transformers and PEFT, with both implementations of the experts.
#include "model/golden/golden.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <tuple>

#include "core/cpu_features.h"
#include "fixture.h"
#include "io/safetensors.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

class Golden : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Golden, matches_transformers_and_peft) {
  const auto& [name, implementation] = GetParam();
  ThreadPool pool(2);
  std::vector<GoldenPart> parts;
  try {
    parts = check_golden(golden_folder(name), implementation, pool);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kUnsupported) GTEST_SKIP() << error.what();
    throw;
  }
  // Experts, three parts of the whole model, five of each of the three adapters.
  EXPECT_EQ(parts.size(), 19u);
  for (const GoldenPart& part : parts) {
    // Without a fused multiply-add f32 sums round otherwise than torch's, and this model's training
    // multiplies that by ten at each step.
    if (active_isa() == IsaLevel::kPortable && name == "mixtral_window_rslora_pattern" &&
        part.part.find("train") != std::string::npos) {
      continue;
    }
    EXPECT_TRUE(part.ok()) << part.part << ": " << part.tensor << " is off by " << part.error
                           << ", bound " << part.bound;
    EXPECT_GT(part.num_tensors, 0) << part.part;
  }
}

INSTANTIATE_TEST_SUITE_P(golden,
                         Golden,
                         testing::Combine(testing::ValuesIn(golden_names()),
                                          testing::Values("eager", "grouped_mm", "scattermoe")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

// The check itself must see a wrong number: one element of one tensor, of each kind.
class GoldenCheck : public testing::TestWithParam<std::string> {};

TEST_P(GoldenCheck, sees_one_wrong_element) {
  const std::string victim = GetParam();
  TempDir dir;
  const std::string folder = dir.path() + "/golden";
  std::filesystem::copy(golden_folder("qwen3_moe"), folder,
                        std::filesystem::copy_options::recursive);
  const bool adapter = victim.find("lora") != std::string::npos || victim.starts_with("train");
  const std::string path =
      folder + (adapter ? "/adapter_expected.safetensors" : "/expected.safetensors");
  std::vector<io::NamedTensor> tensors;
  const auto file = io::SafetensorsFile::open(path);
  for (const io::TensorInfo& info : file.tensors()) {
    Tensor value = file.tensor(info).clone();
    if (info.name == victim) value.data<float>()[value.numel() / 2] += 0.01f;
    tensors.emplace_back(info.name, value);
  }
  io::write_safetensors(path, tensors);
  ThreadPool pool(2);
  int over = 0;
  for (const GoldenPart& part : check_golden(folder, "eager", pool)) over += part.ok() ? 0 : 1;
  EXPECT_EQ(over, 1);
}

INSTANTIATE_TEST_SUITE_P(
    golden,
    GoldenCheck,
    testing::Values("logits",
                    "grad.model.layers.1.mlp.experts.down_proj",
                    "grad.base_model.model.model.layers.0.mlp.experts.base_layer.lora_B.weight",
                    "train.losses"));

TEST(golden_check, refuses_a_folder_of_another_kind) {
  ThreadPool pool(1);
  TempDir dir;
  EXPECT_THROW(check_golden(dir.path(), "eager", pool), Error);
  EXPECT_THROW(check_golden(golden_folder("qwen3_moe"), "no_such_thing", pool), Error);
}

}  // namespace
}  // namespace moesmith::model
