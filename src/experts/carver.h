// SPDX-License-Identifier: Apache-2.0
// Cuts one buffer into pieces. The same code that places the pieces measures them: over no buffer
// it only counts, so a stated size and the offsets used later cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/checked.h"

namespace moesmith::experts {

class Carver {
 public:
  static constexpr std::int64_t kAlignment = 64;

  // nullptr: measure only.
  explicit Carver(std::byte* base = nullptr, std::int64_t alignment = kAlignment)
      : base_(base), alignment_(alignment) {}

  void* bytes(std::int64_t count) {
    used_ = round_up(used_, alignment_);
    std::byte* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ = checked_add(used_, count);
    return piece;
  }
  template <class T>
  T* take(std::int64_t count) {
    return static_cast<T*>(bytes(checked_mul(count, static_cast<std::int64_t>(sizeof(T)))));
  }
  std::int64_t used() const noexcept { return used_; }

 private:
  std::byte* base_;
  std::int64_t alignment_;
  std::int64_t used_ = 0;
};

}  // namespace moesmith::experts
