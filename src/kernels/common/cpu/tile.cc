// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/cpu/tile.h"

namespace moesmith::kernels::cpu {

const Tile& tile_for(IsaLevel level, DType a, DType b) {
#if defined(__x86_64__)
  if (level >= IsaLevel::kAvx512Bf16 && a == DType::kBF16 && b == DType::kBF16) {
    return avx512_bf16::bf16_tile();
  }
  if (level >= IsaLevel::kAvx512) return avx512::f32_tile();
  if (level >= IsaLevel::kAvx2) return avx2::f32_tile();
#else
  static_cast<void>(level);
  static_cast<void>(a);
  static_cast<void>(b);
#endif
  return portable::f32_tile();
}

}  // namespace moesmith::kernels::cpu
