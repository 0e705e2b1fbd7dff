// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "io/atomic_write.h"
#include "moesmith/io.h"
#include "temp_dir.h"

namespace moesmith {
namespace {

TEST(io_facade, reads_and_writes_the_same_bytes) {
  io::TempDir dir;
  const std::string path = MOESMITH_TEST_DATA "/io/mixed.safetensors";
  const TensorFile file = read_safetensors(path);
  EXPECT_EQ(file.tensors.size(), 31u);
  EXPECT_EQ(file.metadata.at("format"), "pt");
  write_safetensors(dir / "copy", file);
  EXPECT_EQ(io::read_file(dir / "copy"), io::read_file(path));
}

}  // namespace
}  // namespace moesmith
