// SPDX-License-Identifier: Apache-2.0
// out[num_rows, n] (+)= rows[num_rows, k] B[k, n] for a few rows: B is read once, from where it
// lies, and nothing is packed. README.md has the order of sums.
#pragma once

#include <cstdint>

#include "kernels/gemm/gemm.h"

namespace moesmith::kernels::gemv {

struct Args {
  const float* const* rows = nullptr;  // num_rows pointers to [k]
  // The same values in bf16, where they are: multiplied as pairs with a bf16 B where the processor
  // can. nullptr: not there.
  const bf16* const* narrow_rows = nullptr;
  std::int64_t num_rows = 0;
  gemm::Operand b;  // [k, n], f32 or bf16; one of its strides is 1
  std::int64_t n = 0, k = 0;
  float* out = nullptr;  // [num_rows, n], row stride ld
  std::int64_t ld = 0;
  bool add = false;  // to out instead of overwriting it
};

// On the calling thread. Throws Error(kInternal) when no stride of b is 1.
void run(const Args& args);

}  // namespace moesmith::kernels::gemv
