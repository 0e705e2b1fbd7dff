// SPDX-License-Identifier: Apache-2.0
// Bounds on what a template may ask for, so that a hostile one ends with an error: templates come
// with checkpoints, from strangers.
#pragma once

#include <cstdint>

namespace moesmith::text::jinja {

constexpr std::int64_t kMaxSourceBytes = 4 << 20;
constexpr int kMaxNesting = 200;     // of containers in values, of blocks and brackets in templates
constexpr int kMaxExprDepth = 400;   // of one expression's tree
constexpr int kMaxEvalDepth = 2000;  // nodes being evaluated inside one another: 8 MiB of stack
constexpr int kMaxCallDepth = 200;   // macros and recursive loops inside one another
constexpr std::int64_t kMaxRange = 100'000;            // items of a range, as jinja2's sandbox
constexpr std::int64_t kMaxStringBytes = 256LL << 20;  // of one string, the output included
// Evaluated nodes, plus items and 16-byte units of text that were made: a second or two, and less
// than 1 GB. A conversation of 4,000 turns and 16 MB stays within it.
constexpr std::int64_t kMaxWork = 20'000'000;

}  // namespace moesmith::text::jinja
