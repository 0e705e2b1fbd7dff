// SPDX-License-Identifier: Apache-2.0
// Adapters on disk, against files that PEFT wrote.
#include "io/adapter.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "io/adapter_targets.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "temp_dir.h"
#include "tiny_model.h"

namespace moesmith::io {
namespace {

const std::string kData = MOESMITH_TEST_DATA "/io/";

AdapterConfig parse_config(const std::string& text) {
  return AdapterConfig::from_json({"adapter_config.json", Json::parse(text, "t")});
}

TEST(adapter_config, is_written_byte_for_byte_as_peft_does) {
  for (const char* name :
       {"qwen3_both", "qwen3_down", "qwen3_router", "mixtral_rslora", "qwen2_shared"}) {
    const std::string bytes = read_file(kData + name + "/adapter_config.json");
    EXPECT_EQ(read_adapter_config(kData + name).dump(), bytes) << name;
  }
}

TEST(adapter_config, from_values_alone_is_peft_s_file) {
  AdapterConfig config;
  config.base_model_name_or_path = "../model";
  config.r = 2;
  config.lora_alpha = 8;
  config.target_modules = {{"q_proj", "k_proj", "v_proj", "o_proj"}, std::nullopt, true};
  config.target_parameters = {"mlp.experts.down_proj", "mlp.experts.gate_up_proj"};
  EXPECT_EQ(config.dump(), read_file(kData + "qwen3_both/adapter_config.json"));
}

TEST(adapter_config, reads_all_forms_of_a_value) {
  const AdapterConfig config = parse_config(
      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 0.5, "target_modules": "all-linear",
          "exclude_modules": ["lm_head"], "layers_to_transform": 3, "layers_pattern": "layers",
          "rank_pattern": {"q_proj": 8, "a.b": 2}, "alpha_pattern": {"q_proj": 1.5},
          "use_rslora": true, "init_lora_weights": "gaussian", "from_the_future": {"x": [1]}})");
  EXPECT_EQ(config.lora_alpha, 0.5);
  EXPECT_EQ(config.target_modules.regex, "all-linear");
  EXPECT_EQ(config.exclude_modules.names, std::vector<std::string>{"lm_head"});
  EXPECT_EQ(config.layers_to_transform, std::vector<std::int64_t>{3});
  EXPECT_EQ(config.layers_pattern, std::vector<std::string>{"layers"});
  EXPECT_EQ(config.rank_pattern[1].first, "a.b");
  EXPECT_FALSE(config.target_parameters);
  EXPECT_EQ(config.peft_version, "");
  const Json written = config.to_json();
  EXPECT_EQ(written.find("from_the_future")->dump(), "{\"x\": [1]}");
  EXPECT_EQ(written.find("lora_alpha")->dump(), "0.5");
  EXPECT_EQ(written.find("peft_version")->as_string(), "0.21.0");
}

TEST(adapter_config, refuses_what_would_change_the_numbers) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("use_dora": true)", "use_dora: got true, expected false: DoRA is not built"},
      {R"("bias": "all")", "bias: got string \"all\", expected none"},
      {R"("lora_bias": true)", "lora_bias: got true"},
      {R"("modules_to_save": ["lm_head"])", "modules_to_save: got array of 1"},
      {R"("trainable_token_indices": [1])", "trainable_token_indices"},
      {R"("layer_replication": [[0, 2]])", "layer_replication"},
      {R"("use_qalora": true)", "use_qalora"},
      {R"("alora_invocation_tokens": [5])", "alora_invocation_tokens"},
      {R"("init_lora_weights": "PiSSA_niter_4")", "init_lora_weights: got string"},
  };
  for (const auto& [member, part] : cases) {
    EXPECT_ERROR(parse_config(R"({"peft_type": "LORA", )" + std::string(member) + "}"),
                 ErrorCode::kUnsupported, part);
  }
  EXPECT_ERROR(parse_config(R"({"peft_type": "IA3"})"), ErrorCode::kUnsupported,
               "peft_type: got string \"IA3\", expected LORA");
  EXPECT_NO_THROW(parse_config(R"({"peft_type": "LORA", "modules_to_save": [], "bias": "none"})"));
}

TEST(adapter_config, refuses_wrong_types_and_values) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("r": "8")", "r: got string \"8\", expected an integer"},
      {R"("r": 0)", "r: got 0, expected a rank"},
      {R"("lora_alpha": NaN)", "lora_alpha: got NaN, expected a finite number"},
      {R"("lora_dropout": 1.0)", "lora_dropout: got 1.0, expected 0 <= p < 1"},
      {R"("target_parameters": "x")", "target_parameters: got string \"x\", expected an array"},
      {R"("target_modules": [1])", "target_modules[0]: got integer 1, expected a string"},
      {R"("rank_pattern": [])", "rank_pattern: got array of 0, expected an object"},
      {R"("rank_pattern": {"q": -1})", "rank_pattern.q: got -1"},
  };
  for (const auto& [member, part] : cases) {
    EXPECT_ERROR(parse_config(R"({"peft_type": "LORA", )" + std::string(member) + "}"),
                 ErrorCode::kInvalidInput, part);
  }
  EXPECT_ERROR(parse_config("{}"), ErrorCode::kInvalidInput, "peft_type: is missing");
  EXPECT_ERROR(parse_config("[]"), ErrorCode::kInvalidInput, "expected an object");
}

TEST(adapter, is_read_and_written_back_byte_for_byte) {
  for (const char* name : {"qwen3_both", "qwen3_down", "qwen3_router"}) {
    TempDir dir;
    const TinyModel model = tiny_qwen3(std::string(name) == "qwen3_router");
    const AdapterConfig config = read_adapter_config(kData + name);
    const auto slots = plan_adapter(config, model.modules, model.parameters);
    const auto factors = read_adapter(kData + name, config, slots);
    std::vector<NamedTensor> tensors;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      tensors.emplace_back(slots[i].key_a, factors[i].a);
      tensors.emplace_back(slots[i].key_b, factors[i].b);
    }
    write_adapter(dir.path(), config, tensors);
    for (const char* file : {"/adapter_model.safetensors", "/adapter_config.json"}) {
      EXPECT_EQ(read_file(dir.path() + file), read_file(kData + name + file)) << name << file;
    }
  }
}

// One expert parameter, [E, out, in] = [3, 5, 4], r = 2.
class OldLayouts : public testing::Test {
 protected:
  static constexpr std::int64_t kE = 3, kR = 2;

  void SetUp() override { build(5, 4, false); }

  void build(std::int64_t out, std::int64_t in, bool transposed) {
    config_ = parse_config(
        R"({"peft_type": "LORA", "r": 2, "target_modules": [], "target_parameters": ["w"]})");
    slots_ = plan_adapter(config_, {}, {{"m.experts", "w", kE, out, in, transposed}});
  }
  static Tensor values(Shape shape, int seed) {
    Tensor tensor = Tensor::empty(std::move(shape), DType::kF32);
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      tensor.data<float>()[i] = static_cast<float>((i * 37 + seed) % 101) - 50;
    }
    return tensor;
  }
  // PEFT before 0.19.1: delta[e, x, y] = sum_j B[y, j*E + e] A[e*r + j, x], x the output axis.
  static float old_delta(
      const Tensor& a, const Tensor& b, std::int64_t e, std::int64_t x, std::int64_t y) {
    float sum = 0;
    for (std::int64_t j = 0; j < kR; ++j) {
      sum +=
          b.data<float>()[y * kR * kE + j * kE + e] * a.data<float>()[(e * kR + j) * a.dim(1) + x];
    }
    return sum;
  }
  static float today_delta(const AdapterFactors& f,
                           std::int64_t e,
                           std::int64_t o,
                           std::int64_t i) {
    float sum = 0;
    for (std::int64_t j = 0; j < kR; ++j) {
      sum += f.b.data<float>()[o * kR * kE + j * kE + e] *
             f.a.data<float>()[(e * kR + j) * f.a.dim(1) + i];
    }
    return sum;
  }
  AdapterFactors read(const Tensor& a, const Tensor& b, const std::string& version) {
    config_.peft_version = version;
    write_safetensors(dir_ / "adapter_model.safetensors",
                      {{slots_[0].key_a, a}, {slots_[0].key_b, b}});
    return read_adapter(dir_.path(), config_, slots_)[0];
  }

  TempDir dir_;
  AdapterConfig config_;
  std::vector<AdapterSlot> slots_;
};

TEST_F(OldLayouts, are_told_by_shape_and_keep_the_delta) {
  const Tensor a = values({kE * kR, 5}, 1), b = values({4, kR * kE}, 2);
  for (const char* version : {"0.18.0", "0.21.0", ""}) {
    const AdapterFactors factors = read(a, b, version);
    EXPECT_EQ(factors.a.shape(), (Shape{kE * kR, 4}));
    EXPECT_EQ(factors.b.shape(), (Shape{5, kR * kE}));
    for (std::int64_t e = 0; e < kE; ++e) {
      for (std::int64_t o = 0; o < 5; ++o) {
        for (std::int64_t i = 0; i < 4; ++i) {
          EXPECT_EQ(today_delta(factors, e, o, i), old_delta(a, b, e, o, i));
        }
      }
    }
  }
}

TEST_F(OldLayouts, square_ones_are_told_by_version) {
  build(4, 4, false);
  const Tensor a = values({kE * kR, 4}, 1), b = values({4, kR * kE}, 2);
  const auto is_exchanged = [&](const std::string& version) {
    const AdapterFactors factors = read(a, b, version);
    return std::memcmp(factors.a.raw(), a.raw(), static_cast<std::size_t>(a.bytes())) != 0;
  };
  EXPECT_TRUE(is_exchanged(""));
  EXPECT_TRUE(is_exchanged("0.17.1"));
  EXPECT_TRUE(is_exchanged("0.19.0"));
  EXPECT_FALSE(is_exchanged("0.19.1"));
  EXPECT_FALSE(is_exchanged("0.20.1.dev0@5d602fdb"));
  EXPECT_FALSE(is_exchanged("1.0.0"));
  build(4, 4, true);  // stored transposed: only 0.19.0 exchanged them
  EXPECT_FALSE(is_exchanged("0.18.0"));
  EXPECT_TRUE(is_exchanged("0.19.0"));
  EXPECT_FALSE(is_exchanged("0.21.0"));
}

TEST_F(OldLayouts, refuses_a_shape_that_is_neither) {
  EXPECT_ERROR(read(values({kE * kR, 6}, 1), values({5, kR * kE}, 2), ""), ErrorCode::kInvalidInput,
               "got shapes [6, 6] and [5, 6], expected [6, 4] and [5, 6]");
}

TEST(adapter, tells_all_defects_of_a_file_at_once) {
  TempDir dir;
  const TinyModel model = tiny_qwen3(false);
  const AdapterConfig config = read_adapter_config(kData + "qwen3_down");
  const auto slots = plan_adapter(config, model.modules, model.parameters);
  const Tensor wrong = Tensor::zeros({1, 1}, DType::kF32);
  write_adapter(dir.path(), config,
                {{slots[0].key_a, wrong},
                 {slots[0].key_b, wrong},
                 {slots[1].key_a, Tensor::zeros(slots[1].shape_a(), DType::kI32)},
                 {slots[1].key_b, Tensor::zeros(slots[1].shape_b(), DType::kF32)},
                 {"base_model.model.lm_head.lora_A.weight", wrong}});
  const Caught caught = catch_error([&] { read_adapter(dir.path(), config, slots); });
  for (const char* part :
       {"adapter_model.safetensors", "3 defects", "got shapes [1, 1] and [1, 1]",
        "got dtypes I32 and F32", "lm_head.lora_A.weight: belongs to no target"}) {
    EXPECT_NE(caught.text.find(part), std::string::npos) << part << "\n" << caught.text;
  }
  write_adapter(dir.path(), config,
                {{slots[0].key_a, Tensor::zeros(slots[0].shape_a(), DType::kF32)}});
  EXPECT_ERROR(read_adapter(dir.path(), config, slots), ErrorCode::kInvalidInput,
               slots[0].key_b + ": is missing, expected for model.layers.0.mlp.experts.down_proj");
}

TEST(adapter, half_precision_factors_become_f32) {
  TempDir dir;
  const TinyModel model = tiny_qwen3(false);
  AdapterConfig config = read_adapter_config(kData + "qwen3_down");
  const auto slots = plan_adapter(config, model.modules, model.parameters);
  std::vector<NamedTensor> tensors;
  const auto factors = read_adapter(kData + "qwen3_down", config, slots);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    tensors.emplace_back(slots[i].key_a, factors[i].a.to(DType::kBF16));
    tensors.emplace_back(slots[i].key_b, factors[i].b.to(DType::kF16));
  }
  write_adapter(dir.path(), config, tensors);
  const auto again = read_adapter(dir.path(), config, slots);
  EXPECT_EQ(again[0].a.dtype(), DType::kF32);
  EXPECT_NEAR(again[0].b.data<float>()[0], factors[0].b.data<float>()[0], 1e-3);
}

TEST(adapter, refuses_pickles_and_missing_files) {
  TempDir dir;
  const AdapterConfig config = read_adapter_config(kData + "qwen3_down");
  write_file(dir / "adapter_model.bin", "x");
  EXPECT_ERROR(read_adapter(dir.path(), config, {}), ErrorCode::kUnsupported,
               "adapter_model.bin: pickled adapters are not read");
  EXPECT_ERROR(read_adapter_config(dir.path()), ErrorCode::kNotFound, "adapter_config.json");
}

TEST(adapter_card, has_front_matter_and_body) {
  TempDir dir;
  write_adapter_card(
      dir.path(),
      {.base_model = "Qwen/Qwen3-30B-A3B", .datasets = {"a b.jsonl"}, .body = "# Title"});
  EXPECT_EQ(read_file(dir / "README.md"),
            "---\nbase_model: Qwen/Qwen3-30B-A3B\ndatasets:\n- \"a b.jsonl\"\nlibrary_name: peft\n"
            "pipeline_tag: text-generation\ntags:\n- base_model:adapter:Qwen/Qwen3-30B-A3B\n"
            "- lora\n- moesmith\n---\n\n# Title\n");
}

}  // namespace
}  // namespace moesmith::io
