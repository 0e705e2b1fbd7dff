// SPDX-License-Identifier: Apache-2.0
#include "core/text.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/checked.h"
#include "core/cpu_features.h"

namespace moesmith {
namespace {

TEST(text, nearest_finds_the_misspelt_name) {
  const std::vector<std::string> known{"adam_epsilon", "learning_rate", "lora_r"};
  EXPECT_EQ(nearest("adam_eps", known), "");
  EXPECT_EQ(nearest("learnig_rate", known), "learning_rate");
  EXPECT_EQ(nearest("lora_R", known), "lora_r");
  EXPECT_EQ(nearest("zzz", known), "");
}

TEST(text, human_bytes_takes_the_largest_unit) {
  EXPECT_EQ(human_bytes(900), "900 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(58.0 * 1024 * 1024 * 1024), "58 GiB");
}

TEST(checked, throws_instead_of_wrapping) {
  EXPECT_EQ(checked_mul(1ll << 31, 1ll << 31), 1ll << 62);
  EXPECT_THROW(checked_mul(1ll << 32, 1ll << 31), Error);
  EXPECT_THROW(checked_add(std::numeric_limits<std::int64_t>::max(), 1), Error);
}

TEST(cpu_features, levels_go_down_but_not_up) {
  const IsaLevel start = active_isa();
  set_isa(IsaLevel::kPortable);
  EXPECT_EQ(active_isa(), IsaLevel::kPortable);
  set_isa(start);
  if (detected_isa() < IsaLevel::kAvx512Bf16) {
    EXPECT_THROW(set_isa(IsaLevel::kAvx512Bf16), Error);
  }
  EXPECT_EQ(isa_name(IsaLevel::kAvx512Bf16), "avx512_bf16");
}

}  // namespace
}  // namespace moesmith
