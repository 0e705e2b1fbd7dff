// SPDX-License-Identifier: Apache-2.0
// The experts layer slot by slot, as PEFT and transformers compute it: W + Delta is formed, nothing
// is grouped, and each operation's result goes through `round`. With the identity it is the
// reference in double; rounding to bf16 it is the naive implementation that ours may not be worse
// than by more than a factor of two. Shares no code with src/experts.
#pragma once

#include <cstdint>
#include <vector>

#include "moesmith/experts.h"

namespace moesmith::experts::testing {

using Values = std::vector<double>;

// Logical values: weights [E, 2I, H] and [E, H, I] in the order of h, factors in PEFT's layout.
struct Data {
  Values hidden, route_weights, d_output;
  std::vector<std::int64_t> index;
  Values w_1, w_2, bias_1, bias_2, a_1, b_1, a_2, b_2;
};

struct Results {
  Values output;
  Values hidden, route_weights, w_1, w_2, bias_1, bias_2, a_1, b_1, a_2, b_2;
};

using Round = double (*)(double);
double no_rounding(double x);
double round_to_bf16(double x);

Results run_oracle(const ExpertsRequest& request,
                   std::int64_t num_tokens,
                   const Data& data,
                   Round round);

}  // namespace moesmith::experts::testing
