// SPDX-License-Identifier: Apache-2.0
// (left id, right id) -> what the pair becomes and how early. Open addressing over one array: the
// look-up is the inner loop of encoding.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace moesmith::text {

struct Merge {
  std::int32_t rank = -1;    // position in the list of merges; lower ones come first
  std::int32_t result = -1;  // id of the joined token
};

class MergeTable {
 public:
  explicit MergeTable(std::size_t num_merges = 0)
      : slots_(std::bit_ceil(num_merges * 2 + 2)), mask_(slots_.size() - 1) {}

  // A pair that is there already gets the new merge, as in Hugging Face's table.
  void set(std::int32_t left, std::int32_t right, Merge merge) {
    const std::uint64_t key = key_of(left, right);
    std::size_t at = start(key);
    while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & mask_;
    slots_[at] = {key, merge};
  }

  // nullptr when the pair does not merge.
  const Merge* find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = start(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return &slots_[at].merge;
      if (slots_[at].key == kEmpty) return nullptr;
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // ids are not negative
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge;
  };

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t start(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> 20) & mask_;
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace moesmith::text
