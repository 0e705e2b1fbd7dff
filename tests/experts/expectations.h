// SPDX-License-Identifier: Apache-2.0
// What the contract promises of a run, as expectations of GoogleTest; the same on every device.
#pragma once

#include "experts_cases.h"
#include "oracle.h"
#include "problem.h"

namespace moesmith::experts::testing {

// Each wanted tensor against the oracle: in f32 within the rounding of its sums, in bf16 no worse
// than twice the naive implementation. No guard band may have been written.
void expect_results(const Case& c, const Outcome& run, const Results& want, const Results& naive);

// Slots without an owner and experts without rows: 0, not merely small.
void expect_exact_zeros(const Case& c, const Data& data, const Outcome& run);

// At most 4 TK I + 2 TK (r1 + r2) + 16 TK bytes in bf16, ranks rounded up to 16.
void expect_little_saved(const Case& c, const ExpertsSizes& sizes);

}  // namespace moesmith::experts::testing
