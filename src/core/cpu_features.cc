// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_features.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith {
namespace {

constexpr std::array<std::string_view, 4> kNames{"portable", "avx2", "avx512", "avx512_bf16"};

IsaLevel level_from_environment() {
  const char* wanted = std::getenv("MOESMITH_ISA");
  if (wanted == nullptr || *wanted == '\0') return detected_isa();
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] != wanted) continue;
    const auto level = static_cast<IsaLevel>(i);
    if (level > detected_isa()) {
      throw Error(
          ErrorCode::kInvalidInput,
          str("MOESMITH_ISA=", wanted, ": this processor has at most ", isa_name(detected_isa())));
    }
    return level;
  }
  throw Error(ErrorCode::kInvalidInput,
              str("MOESMITH_ISA=", wanted, ": expected portable, avx2, avx512 or avx512_bf16"));
}

std::atomic<IsaLevel>& active() {
  static std::atomic<IsaLevel> level{level_from_environment()};
  return level;
}

}  // namespace

std::string_view isa_name(IsaLevel level) noexcept {
  return kNames[static_cast<std::size_t>(level)];
}

IsaLevel detected_isa() noexcept {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return IsaLevel::kPortable;
  }
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return IsaLevel::kAvx2;
  }
  return __builtin_cpu_supports("avx512bf16") ? IsaLevel::kAvx512Bf16 : IsaLevel::kAvx512;
#else
  return IsaLevel::kPortable;
#endif
}

IsaLevel active_isa() { return active().load(std::memory_order_relaxed); }

void set_isa(IsaLevel level) {
  if (level > detected_isa()) {
    throw Error(ErrorCode::kUnsupported,
                str("instruction set ", isa_name(level), ": this processor has at most ",
                    isa_name(detected_isa())));
  }
  active().store(level, std::memory_order_relaxed);
}

}  // namespace moesmith
