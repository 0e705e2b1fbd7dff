// SPDX-License-Identifier: Apache-2.0
// f32 words, 6 x 8 tile: 12 sums, 2 columns and a row's word fit 16 registers.
#include "kernels/common/cpu/dot-inl.h"
#include "kernels/common/cpu/tile-inl.h"
#include "kernels/common/cpu/vectors_portable.h"

namespace moesmith::kernels::cpu::portable {

const Tile& f32_tile() {
  using V = PortableVectors;
  static constexpr Tile kTile{
      IsaLevel::kPortable, DType::kF32, V::kLanes, V::kVecs, multiply<V>, pack<V>, widen<V>,
      finish<V>,           dot<V>};
  return kTile;
}

}  // namespace moesmith::kernels::cpu::portable
