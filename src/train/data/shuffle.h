// SPDX-License-Identifier: Apache-2.0
// A shuffle (Fisher-Yates) that is a function of (seed, stream, round) alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/rng.h"

namespace moesmith::train {

template <class T>
void shuffle(std::vector<T>& items, std::uint64_t seed, std::uint64_t stream, std::int64_t round) {
  const Rng rng(seed, stream);
  const auto base = static_cast<std::uint64_t>(round) << 40;  // more than a data set has samples
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[static_cast<std::size_t>(rng.below(base + i, i))]);
  }
}

}  // namespace moesmith::train
