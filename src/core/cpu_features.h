// SPDX-License-Identifier: Apache-2.0
// Which instruction set the kernels use. Chosen once at start from what the processor has; a
// setting may lower it.
#pragma once

#include <string_view>

namespace moesmith {

// Each level includes the ones before it. On other processors than x86-64 only kPortable exists.
enum class IsaLevel { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// "portable", "avx2", "avx512", "avx512_bf16"
std::string_view isa_name(IsaLevel level) noexcept;
// The highest level this processor and its operating system support.
IsaLevel detected_isa() noexcept;
// What kernels use: detected_isa(), lowered by the environment variable MOESMITH_ISA or by
// set_isa(). A value of MOESMITH_ISA that is unknown or above the detected one throws
// Error(kInvalidInput) at the first call.
IsaLevel active_isa();
// Throws Error(kUnsupported) when the processor lacks `level`. Not to be called while kernels run.
void set_isa(IsaLevel level);

}  // namespace moesmith
