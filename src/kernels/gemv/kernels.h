// SPDX-License-Identifier: Apache-2.0
// The table of functions that each instruction set fills. Nothing of std with inline code is
// included here: a copy compiled for AVX-512 could be the one that the linker keeps.
#pragma once

#include <cstdint>

#include "moesmith/dtype.h"

namespace moesmith::kernels::gemv {

template <class W>
struct Call {
  const float* const* rows;        // num_rows pointers to [k]
  const bf16* const* narrow_rows;  // the same values, or nullptr
  std::int64_t num_rows;
  const W* w;             // dot: [n, k]; sum: [k, n]
  std::int64_t w_stride;  // elements from one row of w to the next
  std::int64_t n, k;
  float* out;  // [num_rows, n], row stride ld
  std::int64_t ld;
  bool add;  // to out instead of overwriting it
};

struct Kernels {
  void (*dot_f32)(const Call<float>& call);
  void (*dot_bf16)(const Call<bf16>& call);
  void (*sum_f32)(const Call<float>& call);
  void (*sum_bf16)(const Call<bf16>& call);
};

namespace portable {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
namespace avx512_bf16 {
const Kernels& kernels();
}

}  // namespace moesmith::kernels::gemv
