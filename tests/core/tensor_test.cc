// SPDX-License-Identifier: Apache-2.0
#include "moesmith/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "moesmith/error.h"

namespace moesmith {
namespace {

TEST(tensor, is_aligned_and_zeroed_on_request) {
  const Tensor tensor = Tensor::zeros({3, 5}, DType::kF32);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 64, 0u);
  EXPECT_EQ(tensor.numel(), 15);
  EXPECT_EQ(tensor.bytes(), 60);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(tensor.data<float>()[i], 0.0f);
}

TEST(tensor, copies_share_and_clones_do_not) {
  Tensor tensor = Tensor::zeros({2, 2}, DType::kF32);
  Tensor shared = tensor;
  const Tensor cloned = tensor.clone();
  shared.data<float>()[3] = 7;
  EXPECT_EQ(tensor.data<float>()[3], 7.0f);
  EXPECT_EQ(cloned.data<float>()[3], 0.0f);
}

TEST(tensor, rows_and_reshaped_view_the_same_storage) {
  Tensor tensor = Tensor::zeros({4, 3}, DType::kF32);
  tensor.rows(2, 4).data<float>()[0] = 5;
  EXPECT_EQ(tensor.data<float>()[6], 5.0f);
  EXPECT_EQ(tensor.reshaped({2, 6}).data<float>()[6], 5.0f);
  EXPECT_THROW(tensor.rows(3, 5), Error);
  EXPECT_THROW(tensor.reshaped({5}), Error);
}

TEST(tensor, converts_between_floats) {
  Tensor tensor = Tensor::empty({2}, DType::kF32);
  tensor.data<float>()[0] = 1.5f;
  tensor.data<float>()[1] = -3.0f;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF64}) {
    const Tensor back = tensor.to(dtype).to(DType::kF32);
    EXPECT_EQ(back.data<float>()[0], 1.5f);
    EXPECT_EQ(back.data<float>()[1], -3.0f);
  }
  EXPECT_THROW(Tensor::zeros({1}, DType::kI64).to(DType::kF32), Error);
}

TEST(tensor, refuses_the_wrong_type_and_impossible_shapes) {
  Tensor tensor = Tensor::zeros({1}, DType::kF32);
  EXPECT_THROW(tensor.data<bf16>(), Error);
  EXPECT_THROW(Tensor::empty({-1}, DType::kF32), Error);
  EXPECT_THROW(Tensor::empty({std::numeric_limits<std::int64_t>::max(), 2}, DType::kF32), Error);
  EXPECT_THROW(Tensor::empty({std::numeric_limits<std::int64_t>::max()}, DType::kF32), Error);
}

TEST(tensor, wrap_keeps_its_owner_alive) {
  auto owner = std::make_shared<float>(2.0f);
  const std::weak_ptr<float> watch = owner;
  Tensor tensor = Tensor::wrap(owner, owner.get(), {1}, DType::kF32);
  owner.reset();
  EXPECT_EQ(tensor.data<float>()[0], 2.0f);
  tensor = Tensor();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace moesmith
