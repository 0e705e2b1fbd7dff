// SPDX-License-Identifier: Apache-2.0
// Cases beside all_cases() that reach every tile shape of the GPU kernels, with whole tiles and
// with tails, on 16-byte rows and on odd ones.
#pragma once

#include <vector>

#include "experts_cases.h"

namespace moesmith::experts::testing {

std::vector<Case> gpu_cases();

}  // namespace moesmith::experts::testing
