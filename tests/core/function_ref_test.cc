// SPDX-License-Identifier: Apache-2.0
#include "core/function_ref.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace moesmith {
namespace {

int call(FunctionRef<int(int)> function, int x) { return function(x); }

TEST(function_ref, calls_closures_and_std_function) {
  const int offset = 3;
  EXPECT_EQ(call([&](int x) { return x + offset; }, 4), 7);
  const std::function<int(int)> owner = [](int x) { return -x; };
  EXPECT_EQ(call(owner, 4), -4);
}

TEST(function_ref, refers_to_the_object_and_does_not_copy_it) {
  int calls = 0;
  auto count = [calls = &calls](int) mutable { return ++*calls; };
  const FunctionRef<int(int)> reference = count;
  const FunctionRef<int(int)> copy = reference;
  EXPECT_EQ(reference(0), 1);
  EXPECT_EQ(copy(0), 2);
  EXPECT_EQ(calls, 2);
}

TEST(function_ref, passes_references_on) {
  std::string text = "a";
  const auto append = [](std::string& to, std::string&& tail) { to += std::move(tail); };
  FunctionRef<void(std::string&, std::string &&)> reference = append;
  reference(text, "b");
  EXPECT_EQ(text, "ab");
}

}  // namespace
}  // namespace moesmith
