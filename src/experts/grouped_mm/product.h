// SPDX-License-Identifier: Apache-2.0
// C [m,n] f32 = (C +) A B on the calling thread alone, by oneDNN: parallelism is over groups of
// rows, so results cannot depend on the number of threads.
#pragma once

#include <string>

#include "kernels/gemm/gemm.h"

namespace moesmith::experts::grouped_mm {

// Arguments as kernels::gemm takes them; c is f32, alpha 1, without bias. Where oneDNN multiplies
// no bf16 at speed (below AVX512-BF16), or the operands differ in dtype, blocks of them are widened
// to f32.
void multiply(const kernels::gemm::Args& args);

// Whether bf16 operands go to oneDNN as they are.
bool multiplies_bf16();

// What a build without oneDNN replaces (no_onednn.cc).
//
// "" when there is oneDNN, else why not.
std::string onednn_missing();
// Whether oneDNN's own kernels may use AVX512-BF16. What lowered the instruction set before the
// first product still holds after a later rise: oneDNN settles on one once.
bool onednn_has_bf16();
// "oneDNN 2.6.3"
std::string onednn_version();
// Both operands f32, or both bf16.
void onednn_multiply(const kernels::gemm::Args& args);

}  // namespace moesmith::experts::grouped_mm
