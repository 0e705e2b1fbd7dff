// SPDX-License-Identifier: Apache-2.0
// Memory for a step's activations: one block, handed out from the front. Without a block it only
// counts, so that the size of a step is known beforehand by running the same code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/check.h"
#include "core/checked.h"
#include "moesmith/tensor.h"

namespace moesmith::model {

class Arena {
 public:
  // Counts only; what take() returns must not be touched.
  Arena() = default;
  explicit Arena(std::int64_t bytes)
      : block_(Tensor::empty({bytes}, DType::kU8)), capacity_(bytes) {}

  std::int64_t capacity() const noexcept { return capacity_; }
  std::int64_t peak() const noexcept { return peak_; }

  template <class T>
  T* take(std::int64_t count) {
    return static_cast<T*>(take_bytes(count * static_cast<std::int64_t>(sizeof(T))));
  }
  void* take_bytes(std::int64_t bytes) {
    const std::int64_t at = used_;
    used_ += round_up(bytes, 64);
    peak_ = std::max(peak_, used_);
    if (!block_.defined()) return nullptr;
    MOESMITH_ASSERT(used_ <= capacity_, "the step's size was counted by the same code");
    return static_cast<char*>(block_.raw()) + at;
  }

  std::int64_t mark() const noexcept { return used_; }
  // Gives back everything taken since `mark`.
  void rewind(std::int64_t mark) noexcept { used_ = mark; }

 private:
  Tensor block_;
  std::int64_t capacity_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace moesmith::model
