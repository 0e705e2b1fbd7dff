// SPDX-License-Identifier: Apache-2.0
// Text from a model, token by token: repetition penalty, temperature, top-k, top-p, then a draw
// from the counter-based generator; temperature 0 takes the most likely token.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/options.h"

namespace moesmith::model {
class CausalLM;
}

namespace moesmith::train {

// The next token after `context` (prompt and generated so far), from `logits` [vocab], which is
// used as scratch. Order and meaning as transformers' logits processors. `draw` numbers the token:
// the same (seed, draw) gives the same choice.
std::int32_t sample_token(std::span<float> logits,
                          std::span<const std::int32_t> context,
                          const model::GenerationOptions& options,
                          std::uint64_t draw);

struct Generation {
  std::vector<std::int32_t> tokens;  // without the prompt and without the stop token
  bool stopped = false;              // at a stop token (false: max_new_tokens, or on_token said so)
};

// on_token sees each token as it is made; false ends the generation.
Generation generate(model::CausalLM& model,
                    std::span<const std::int32_t> prompt,
                    std::span<const std::int32_t> stop_tokens,
                    const model::GenerationOptions& options,
                    const std::function<bool(std::int32_t token)>& on_token = {});

}  // namespace moesmith::train
