// SPDX-License-Identifier: Apache-2.0
// The cases that every implementation is tested on. A new entry needs no new code.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "moesmith/experts.h"

namespace moesmith::experts::testing {

enum class Routing {
  kRandom,      // distinct experts per token
  kSkipped,     // a third of the indices outside [0, E), on both sides
  kAllSkipped,  // none inside
  kDuplicates,  // a token's slots all name one expert
  kOneExpert,   // every slot names the last expert: the others stay empty
  kZipf,        // expert e with a share that falls like 1 / (e + 1); a token's may repeat
};

struct Case {
  std::string name;
  ExpertsRequest request;
  std::int64_t num_tokens = 0;
  Routing routing = Routing::kRandom;
  std::int64_t stride_padding = 0;  // added to each row stride of the weights
};

// GoogleTest prints a case by its name.
void PrintTo(const Case& c, std::ostream* out);

std::vector<Case> all_cases();
// all_cases() with this name; throws std::out_of_range when there is none.
Case find_case(const std::string& name);

// Every gradient that the request can have, in its own dtype or in f32.
WantedGradients all_gradients(const ExpertsRequest& request, GradMode mode, bool own_dtype = false);

}  // namespace moesmith::experts::testing
