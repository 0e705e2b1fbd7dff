// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "temp_dir.h"

namespace moesmith::io {
namespace {

const std::string kData = MOESMITH_TEST_DATA "/io/";

std::string file_of(const std::string& header, const std::string& data) {
  const auto length = static_cast<std::uint64_t>(header.size());
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

Tensor filled(Shape shape, DType dtype) {
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  auto* bytes = static_cast<unsigned char*>(tensor.raw());
  for (std::int64_t i = 0; i < tensor.bytes(); ++i)
    bytes[i] = static_cast<unsigned char>(i * 7 + 1);
  return tensor;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 ||
          std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())) == 0);
}

class Safetensors : public testing::Test {
 protected:
  SafetensorsFile open_bytes(const std::string& bytes) {
    // Neither synced nor truncated (ext4 flushes a file that was truncated): it runs often.
    std::filesystem::remove(dir_ / "t.safetensors");
    std::ofstream(dir_ / "t.safetensors", std::ios::binary) << bytes;
    return SafetensorsFile::open(dir_ / "t.safetensors");
  }
  void refuses(const std::string& header, const std::string& data, const std::string& part) {
    EXPECT_ERROR(open_bytes(file_of(header, data)), ErrorCode::kInvalidInput, part);
  }
  TempDir dir_;
};

// Files written by the safetensors library, each read and written again.
TEST_F(Safetensors, rewrites_the_librarys_files_byte_for_byte) {
  for (const char* name :
       {"qwen3_both/adapter_model.safetensors", "qwen3_router/adapter_model.safetensors",
        "inputs.safetensors", "mixed.safetensors"}) {
    const SafetensorsFile file = SafetensorsFile::open(kData + name);
    std::vector<NamedTensor> tensors;
    for (const TensorInfo& info : file.tensors())
      tensors.emplace_back(info.name, file.tensor(info));
    std::reverse(tensors.begin(), tensors.end());
    write_safetensors(dir_ / "again", tensors, file.metadata());
    EXPECT_EQ(read_file(dir_ / "again"), read_file(kData + name)) << name;
  }
}

TEST_F(Safetensors, brings_back_every_type_and_shape) {
  std::vector<NamedTensor> tensors;
  int i = 0;
  for (const DType dtype : {DType::kU8, DType::kBool, DType::kI8, DType::kI16, DType::kBF16,
                            DType::kF16, DType::kF32, DType::kI32, DType::kF64, DType::kI64}) {
    const std::string suffix = std::to_string(i++);
    tensors.emplace_back("a" + suffix, filled({3, 5}, dtype));
    tensors.emplace_back("scalar" + suffix, filled({}, dtype));
    tensors.emplace_back("empty" + suffix, filled({0, 4}, dtype));
  }
  tensors.emplace_back("na\"me \xc3\xa9", filled({2}, DType::kF32));
  write_safetensors(dir_ / "x", tensors, {{"format", "pt"}, {"k", "v"}});
  const SafetensorsFile file = SafetensorsFile::open(dir_ / "x");
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(same(file.tensor(name), tensor)) << name;
  EXPECT_ERROR(file.tensor("b"), ErrorCode::kNotFound, "there is no tensor b");
}

TEST_F(Safetensors, views_outlive_the_file_object_and_the_file) {
  write_safetensors(dir_ / "x", {{"a", filled({4}, DType::kF32)}});
  const Tensor view = SafetensorsFile::open(dir_ / "x").tensor("a");
  std::filesystem::remove(dir_ / "x");
  EXPECT_TRUE(same(view, filled({4}, DType::kF32)));
}

TEST_F(Safetensors, pages_that_were_given_back_are_read_again) {
  Tensor large = Tensor::empty({3, 4096}, DType::kF32);
  for (std::int64_t i = 0; i < large.numel(); ++i) large.data<float>()[i] = static_cast<float>(i);
  write_safetensors(dir_ / "x", {{"before", large}, {"large", large}});
  const SafetensorsFile file = SafetensorsFile::open(dir_ / "x");
  const Tensor view = file.tensor("large");
  EXPECT_EQ(view.data<float>()[12000], 12000.0f);
  file.dont_need(*file.find("large"));
  for (std::int64_t i = 0; i < large.numel(); ++i) {
    ASSERT_EQ(view.data<float>()[i], static_cast<float>(i));
  }
}

TEST_F(Safetensors, copies_what_is_not_aligned) {
  // A header of odd length, so that the data begins at an odd offset.
  std::string header = R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})";
  if (header.size() % 2 == 0) header += ' ';
  const SafetensorsFile file = open_bytes(file_of(header, std::string("\x80\x3f\x00\x40", 4)));
  const Tensor tensor = file.tensor("a");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 2, 0u);
  EXPECT_EQ(static_cast<float>(tensor.data<bf16>()[0]), 1.0f);
  EXPECT_EQ(static_cast<float>(tensor.data<bf16>()[1]), 2.0f);
}

TEST_F(Safetensors, names_a_type_that_it_cannot_use) {
  const SafetensorsFile file =
      open_bytes(file_of(R"({"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "ab"));
  EXPECT_ERROR(file.tensor("q"), ErrorCode::kUnsupported, "q: dtype is F8_E4M3, expected one of");
}

TEST_F(Safetensors, refuses_broken_headers) {
  refuses("", "", "invalid JSON");
  refuses("[]", "", "expected an object");
  refuses(R"({"a":3})", "", "a: got integer 3, expected an object");
  refuses(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "1234", "a: dtype: is missing");
  refuses(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", "1234",
          "a: dtype is F99, which is unknown");
  refuses(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "1234",
          "a: shape[0]: got number 1.5, expected an integer");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "1234", "has 1 numbers");
  refuses(R"({"__metadata__":{"x":1}})", "", "__metadata__: x: got integer 1");
}

TEST_F(Safetensors, refuses_numbers_that_the_file_does_not_bear_out) {
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", "1234",
          "a: data_offsets are [0, 8], expected within the 4 bytes");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234", "[4, 0]");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "1234", "[-4, 0]");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234",
          "a: has 4 bytes, expected 8 for F32 [2]");
  refuses(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234", "impossible");
  refuses(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "",
          "impossible");
  refuses(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,2],"data_offsets":[0,4]}})", "1234",
          "expected 0");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}})", "1234",
          "expected within the 4 bytes");
}

TEST_F(Safetensors, refuses_overlaps_gaps_and_leftovers) {
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
          R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
          "123456", "b: its data begins at offset 2, expected 4, the end of a; they overlap");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
          R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
          "123456789012", "belong to no tensor");
  refuses(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "12345",
          "the last 1 belong to no tensor");
  refuses(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
          R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          "12", "\"a\" occurs twice");
}

TEST_F(Safetensors, refuses_impossible_header_lengths) {
  EXPECT_ERROR(open_bytes(""), ErrorCode::kInvalidInput, "has 0 bytes");
  EXPECT_ERROR(open_bytes("1234567"), ErrorCode::kInvalidInput, "has 7 bytes");
  EXPECT_ERROR(open_bytes(std::string(8, '\xff')), ErrorCode::kInvalidInput, "at most 100000000");
  EXPECT_ERROR(open_bytes(std::string("\x40\0\0\0\0\0\0\0{}", 10)), ErrorCode::kInvalidInput,
               "the file is cut off");
  EXPECT_ERROR(SafetensorsFile::open(dir_ / "none"), ErrorCode::kNotFound, "no such file");
  EXPECT_ERROR(SafetensorsFile::open(dir_.path()), ErrorCode::kIo, "cannot map");
}

TEST_F(Safetensors, refuses_every_cut_and_survives_every_flipped_header_bit) {
  const std::string whole = read_file(kData + "inputs.safetensors");
  std::uint64_t length;
  std::memcpy(&length, whole.data(), sizeof length);
  for (std::size_t end = 0; end < whole.size(); ++end) {
    EXPECT_THROW(open_bytes(whole.substr(0, end)), Error) << end;
  }
  for (std::size_t i = 0; i < 8 + length; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      try {
        const SafetensorsFile file = open_bytes(flipped);
        for (const TensorInfo& info : file.tensors()) {
          if (info.dtype) file.tensor(info).clone();  // reads every byte that the header claims
        }
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("t.safetensors"), std::string::npos);
      }
    }
  }
}

TEST_F(Safetensors, writer_takes_rows_in_any_order) {
  const Tensor whole = filled({6, 3}, DType::kBF16);
  SafetensorsWriter writer(dir_ / "x", {{"w", DType::kBF16, {6, 3}}, {"v", DType::kF32, {2}}});
  writer.write_rows("w", 4, whole.rows(4, 6));
  writer.write("v", filled({2}, DType::kF32));
  writer.write_rows("w", 0, whole.rows(0, 4));
  writer.finish();
  EXPECT_TRUE(same(SafetensorsFile::open(dir_ / "x").tensor("w"), whole));
}

TEST_F(Safetensors, writer_refuses_what_was_not_announced) {
  SafetensorsWriter writer(dir_ / "x", {{"w", DType::kF32, {2, 2}}});
  EXPECT_THROW(writer.write("v", filled({2, 2}, DType::kF32)), Error);
  EXPECT_THROW(writer.write("w", filled({2, 3}, DType::kF32)), Error);
  EXPECT_THROW(writer.write("w", filled({2, 2}, DType::kI32)), Error);
  EXPECT_THROW(writer.write_rows("w", 1, filled({2, 2}, DType::kF32)), Error);
  EXPECT_THROW(writer.write_rows("w", -1, filled({1, 2}, DType::kF32)), Error);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "x"));
  EXPECT_THROW(SafetensorsWriter(dir_ / "y", {{"w", DType::kF32, {2}}, {"w", DType::kF32, {2}}}),
               Error);
  EXPECT_FALSE(std::filesystem::exists((dir_ / "y") + std::string(kTemporarySuffix)));
}

}  // namespace
}  // namespace moesmith::io
