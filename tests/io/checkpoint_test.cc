// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <optional>

#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "temp_dir.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

Tensor ramp(std::int64_t rows, std::int64_t columns, float first) {
  Tensor tensor = Tensor::empty({rows, columns}, DType::kF32);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data<float>()[i] = first + static_cast<float>(i);
  }
  return tensor;
}

// Three tensors of 24 bytes; 48 fit a shard.
void write_model(const std::string& folder, std::int64_t max_shard_bytes) {
  make_directories(folder);
  write_file(folder + "/config.json", R"({"model_type": "x"})");
  CheckpointWriter writer(folder,
                          {{"c", DType::kF32, {2, 3}},
                           {"a", DType::kF32, {2, 3}},
                           {"b", DType::kF32, {2, 3}},
                           {"none", DType::kF32, {0, 3}}},
                          max_shard_bytes);
  writer.write("c", ramp(2, 3, 10));
  writer.write_rows("a", 1, ramp(1, 3, 23));
  writer.write("b", ramp(2, 3, 30));
  writer.write_rows("a", 0, ramp(1, 3, 20));
  writer.write("none", ramp(0, 3, 0));
  writer.finish();
}

TEST(checkpoint, one_file_round_trip) {
  TempDir dir;
  write_model(dir / "m", 1000);
  EXPECT_FALSE(fs::exists(dir / "m/model.safetensors.index.json"));
  const Checkpoint checkpoint = Checkpoint::open(dir / "m");
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "c", "none"}));
  EXPECT_EQ(checkpoint.weight_bytes(), 72);
  EXPECT_EQ(checkpoint.tensor("a").data<float>()[5], 25.0f);
  EXPECT_EQ(checkpoint.config().root().at("model_type").as_string(), "x");
  EXPECT_TRUE(Checkpoint::has_weights(dir / "m"));
  EXPECT_FALSE(Checkpoint::has_weights(dir.path()));
}

TEST(checkpoint, shards_follow_the_order_given_and_transformers_names) {
  TempDir dir;
  write_model(dir / "m", 48);
  EXPECT_EQ(read_file(dir / "m/model.safetensors.index.json"),
            "{\n  \"metadata\": {\n    \"total_parameters\": 18,\n    \"total_size\": 72\n  },\n"
            "  \"weight_map\": {\n"
            "    \"a\": \"model-00001-of-00002.safetensors\",\n"
            "    \"b\": \"model-00002-of-00002.safetensors\",\n"
            "    \"c\": \"model-00001-of-00002.safetensors\",\n"
            "    \"none\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
  const Checkpoint checkpoint = Checkpoint::open(dir / "m");
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.file_of("b"), dir / "m/model-00002-of-00002.safetensors");
  EXPECT_EQ(checkpoint.tensor("c", {2, 3}).data<float>()[0], 10.0f);
  EXPECT_EQ(checkpoint.tensor("b").data<float>()[0], 30.0f);
  EXPECT_ERROR(checkpoint.tensor("b", {3, 2}), ErrorCode::kInvalidInput,
               "model-00002-of-00002.safetensors: b: got shape [2, 3], expected [3, 2]");
}

TEST(checkpoint, a_tensor_larger_than_a_shard_gets_its_own) {
  TempDir dir;
  write_model(dir / "m", 1);
  EXPECT_EQ(Checkpoint::open(dir / "m").files().size(), 3u);
}

TEST(checkpoint, names_the_nearest_tensor) {
  TempDir dir;
  make_directories(dir / "m");
  write_file(dir / "m/config.json", "{}");
  write_safetensors(dir / "m/model.safetensors", {{"lm_head.weight", ramp(1, 1, 0)}});
  EXPECT_ERROR(Checkpoint::open(dir / "m").tensor("lm_haed.weight"), ErrorCode::kNotFound,
               "there is no tensor lm_haed.weight; the nearest name is lm_head.weight");
}

TEST(checkpoint, tells_what_is_missing) {
  TempDir dir;
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::kNotFound, "config.json");
  write_file(dir / "config.json", "{}");
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::kNotFound, "has no weights");
  write_file(dir / "pytorch_model.bin", "x");
  EXPECT_ERROR(Checkpoint::open(dir.path()), ErrorCode::kUnsupported,
               "pytorch_model.bin: pickled weights are not read");
}

TEST(checkpoint, tells_a_missing_shard) {
  TempDir dir;
  write_model(dir / "m", 48);
  fs::remove(dir / "m/model-00002-of-00002.safetensors");
  EXPECT_ERROR(Checkpoint::open(dir / "m"), ErrorCode::kNotFound,
               "model-00002-of-00002.safetensors: this shard is named by");
}

TEST(checkpoint, tells_an_index_that_does_not_fit_its_shards) {
  TempDir dir;
  write_model(dir / "m", 48);
  const std::string index = dir / "m/model.safetensors.index.json";
  const std::string good = read_file(index);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    write_file(index, text);
    return Checkpoint::open(dir / "m");
  };
  EXPECT_ERROR(with("\"a\":", "\"z\":"), ErrorCode::kInvalidInput,
               "model-00001-of-00002.safetensors: z: is not in this file");
  EXPECT_ERROR(with("\"a\": \"model-00001", "\"a\": \"model-00002"), ErrorCode::kInvalidInput,
               "a: got file model-00002-of-00002.safetensors, but it lies in");
  EXPECT_ERROR(with("\"model-00001-of-00002.safetensors\"", "\"../x\""), ErrorCode::kInvalidInput,
               "expected the name of a file beside the index");
  EXPECT_ERROR(with("\"model-00001-of-00002.safetensors\"", "7"), ErrorCode::kInvalidInput,
               "weight_map.a: got integer 7, expected a string");
  EXPECT_ERROR(with("\"weight_map\"", "\"weights\""), ErrorCode::kInvalidInput,
               "weight_map: is missing");
  write_file(index, good);
  fs::copy_file(dir / "m/model-00001-of-00002.safetensors",
                dir / "m/model-00002-of-00002.safetensors", fs::copy_options::overwrite_existing);
  EXPECT_ERROR(Checkpoint::open(dir / "m"), ErrorCode::kInvalidInput, "expected each tensor once");
}

TEST(checkpoint_writer, refuses_tensors_twice_and_missing_ones) {
  TempDir dir;
  CheckpointWriter writer(dir.path(), {{"a", DType::kF32, {1, 1}}, {"b", DType::kF32, {1, 1}}}, 4);
  EXPECT_EQ(writer.num_shards(), 2u);
  writer.write("a", ramp(1, 1, 0));
  EXPECT_THROW(writer.write("a", ramp(1, 1, 0)), Error);
  EXPECT_THROW(writer.write("c", ramp(1, 1, 0)), Error);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_FALSE(fs::exists(dir / "model.safetensors.index.json"));
}

TEST(checkpoint, copies_the_files_beside_the_weights) {
  TempDir dir;
  make_directories(dir / "from");
  for (const char* name : {"config.json", "tokenizer.json", "chat_template.jinja", "notes.txt"}) {
    write_file(dir / ("from/" + std::string(name)), name);
  }
  EXPECT_EQ(copy_model_files(dir / "from", dir / "to"),
            (std::vector<std::string>{"config.json", "tokenizer.json", "chat_template.jinja"}));
  EXPECT_EQ(read_file(dir / "to/tokenizer.json"), "tokenizer.json");
  EXPECT_EQ(copy_model_files(dir / "from", dir / "bare", false),
            (std::vector<std::string>{"tokenizer.json", "chat_template.jinja"}));
}

class HubCache : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      const char* value = getenv(name);
      saved_.push_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      if (saved_[i]) {
        setenv(kNames[i], saved_[i]->c_str(), 1);
      } else {
        unsetenv(kNames[i]);
      }
    }
  }
  void add(const std::string& cache, const std::string& commit, const std::string& ref) {
    const std::string folder = cache + "/models--Qwen--Qwen3-30B-A3B";
    make_directories(folder + "/snapshots/" + commit);
    make_directories(folder + "/refs/" + ref + "/..");
    remove_all(folder + "/refs/" + ref);
    write_file(folder + "/refs/" + ref, commit);
  }
  static constexpr const char* kNames[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                           "XDG_CACHE_HOME", "HOME"};
  std::vector<std::optional<std::string>> saved_;
  TempDir dir_;
};

TEST_F(HubCache, finds_revisions_wherever_the_cache_is) {
  const std::string id = "Qwen/Qwen3-30B-A3B";
  const std::string tail = "/models--Qwen--Qwen3-30B-A3B/snapshots/";
  add(dir_ / "a", "0123abc", "main");
  add(dir_ / "a", "4567def", "refs/pr/1");
  setenv("HF_HUB_CACHE", (dir_ / "a").c_str(), 1);
  EXPECT_EQ(resolve_model(id), (dir_ / "a") + tail + "0123abc");
  EXPECT_EQ(resolve_model(id, "main"), (dir_ / "a") + tail + "0123abc");
  EXPECT_EQ(resolve_model(id, "refs/pr/1"), (dir_ / "a") + tail + "4567def");
  EXPECT_EQ(resolve_model(id, "4567def"), (dir_ / "a") + tail + "4567def");
  unsetenv("HF_HUB_CACHE");
  add(dir_ / "home/hub", "1", "main");
  setenv("HF_HOME", (dir_ / "home").c_str(), 1);
  EXPECT_EQ(resolve_model(id), (dir_ / "home/hub") + tail + "1");
  unsetenv("HF_HOME");
  add(dir_ / ".cache/huggingface/hub", "2", "main");
  setenv("HOME", dir_.path().c_str(), 1);
  EXPECT_EQ(resolve_model(id), (dir_ / ".cache/huggingface/hub") + tail + "2");
}

TEST_F(HubCache, says_how_to_download) {
  setenv("HF_HOME", (dir_ / "h").c_str(), 1);
  EXPECT_ERROR(resolve_model("Qwen/Qwen3-30B-A3B"), ErrorCode::kNotFound,
               "download it with: hf download Qwen/Qwen3-30B-A3B");
  add(dir_ / "h/hub", "1", "main");
  EXPECT_ERROR(resolve_model("Qwen/Qwen3-30B-A3B", "v2"), ErrorCode::kNotFound,
               "hf download Qwen/Qwen3-30B-A3B --revision v2");
  EXPECT_ERROR(resolve_model("Qwen/Qwen3-30B-A3B", "../../.."), ErrorCode::kNotFound, "revision");
  write_file(dir_ / "h/hub/models--Qwen--Qwen3-30B-A3B/outside", "1");
  EXPECT_ERROR(resolve_model("Qwen/Qwen3-30B-A3B", "../outside"), ErrorCode::kNotFound, "revision");
  EXPECT_ERROR(resolve_model("./no/such/folder"), ErrorCode::kNotFound,
               "./no/such/folder: there is no such folder");
  EXPECT_ERROR(resolve_model("a/b/c"), ErrorCode::kNotFound, "there is no such folder");
  EXPECT_ERROR(resolve_model(""), ErrorCode::kInvalidInput, "empty");
  make_directories(dir_ / "Qwen");
  EXPECT_EQ(resolve_model(dir_ / "Qwen"), dir_ / "Qwen");
}

TEST_F(HubCache, tells_a_snapshot_that_was_never_finished) {
  setenv("HF_HUB_CACHE", (dir_ / "a").c_str(), 1);
  make_directories(dir_ / "a/models--o--m/refs");
  write_file(dir_ / "a/models--o--m/refs/main", "");
  EXPECT_ERROR(resolve_model("o/m"), ErrorCode::kNotFound, "revision main is not in");
}

}  // namespace
}  // namespace moesmith::io
