// SPDX-License-Identifier: Apache-2.0
// MOESMITH_ASSERT is for defects of Moesmith itself: it prints where and why, and aborts. Never on
// user input.
#pragma once

namespace moesmith {
[[noreturn]] void assert_failed(const char* condition, const char* why, const char* file, int line);
}

#define MOESMITH_ASSERT(condition, why) \
  ((condition) ? void(0) : ::moesmith::assert_failed(#condition, why, __FILE__, __LINE__))

#ifdef NDEBUG
#define MOESMITH_DASSERT(condition, why) void(0)
#else
#define MOESMITH_DASSERT(condition, why) MOESMITH_ASSERT(condition, why)
#endif
