// SPDX-License-Identifier: Apache-2.0
#include "core/profile.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace moesmith::profile {
namespace {

void wait_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(profile, charges_a_scope_without_the_scopes_within_it) {
  enable(true);
  take();
  {
    const Scope outer("outer");
    const Scope inner("inner");
    wait_ms(20);
  }
  enable(false);
  const auto lines = take();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].name, "inner");
  EXPECT_EQ(lines[0].calls, 1);
  EXPECT_GE(lines[0].seconds, 0.02);
  EXPECT_LT(lines[1].seconds, lines[0].seconds);
}

TEST(profile, measures_nothing_when_off) {
  enable(false);
  { const Scope scope("unseen"); }
  EXPECT_TRUE(take().empty());
}

}  // namespace
}  // namespace moesmith::profile
