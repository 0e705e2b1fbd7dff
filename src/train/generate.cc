// SPDX-License-Identifier: Apache-2.0
#include "train/generate.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/rng.h"
#include "core/text.h"
#include "model/causal_lm.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

// Counter stream of sampling, apart from initialisation, dropout and data order.
constexpr std::uint64_t kSampleStream = 0x73616d706c65;

void penalise(std::span<float> logits, std::span<const std::int32_t> context, float penalty) {
  if (penalty == 1.0f) return;
  std::unordered_set<std::int32_t> seen(context.begin(), context.end());
  for (const std::int32_t token : seen) {
    float& logit = logits[static_cast<std::size_t>(token)];
    logit = logit < 0.0f ? logit * penalty : logit / penalty;
  }
}

struct Candidate {
  float logit;
  std::int32_t token;
};

// The top_k largest (all with 0; ties with the last one stay in), largest first, the lower token
// first among equals.
std::vector<Candidate> top_candidates(std::span<const float> logits, std::int64_t top_k) {
  std::vector<Candidate> all;
  all.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    all.push_back({logits[i], static_cast<std::int32_t>(i)});
  }
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (top_k > 0 && static_cast<std::size_t>(top_k) < all.size()) {
    const auto last = all.begin() + (top_k - 1);
    std::nth_element(all.begin(), last, all.end(), before);
    const float limit = last->logit;
    std::erase_if(all, [&](const Candidate& c) { return c.logit < limit; });
  }
  std::sort(all.begin(), all.end(), before);
  return all;
}

}  // namespace

std::int32_t sample_token(std::span<float> logits,
                          std::span<const std::int32_t> context,
                          const model::GenerationOptions& options,
                          std::uint64_t draw) {
  for (const std::int32_t token : context) {
    if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) {
      throw Error(ErrorCode::kInvalidInput,
                  str("generate: token id, got ", token, ", expected 0 to ", logits.size() - 1));
    }
  }
  penalise(logits, context, static_cast<float>(options.repetition_penalty));
  if (options.temperature == 0.0) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }
  std::vector<Candidate> candidates = top_candidates(logits, options.top_k);
  std::vector<double> weights(candidates.size());
  double total = 0.0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double gap = static_cast<double>(candidates[i].logit) - candidates.front().logit;
    weights[i] = std::exp(gap / options.temperature);
    total += weights[i];
  }
  if (options.top_p < 1.0) {
    // The shortest head whose mass reaches top_p; one candidate at least.
    double mass = 0.0;
    std::size_t kept = 0;
    while (kept < weights.size() && (kept == 0 || mass < options.top_p * total)) {
      mass += weights[kept++];
    }
    candidates.resize(kept);
    total = mass;
  }
  const Rng rng(static_cast<std::uint64_t>(options.seed), kSampleStream);
  double left = static_cast<double>(rng.uniform(draw)) * total;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return candidates[i].token;
  }
  return candidates.back().token;
}

Generation generate(model::CausalLM& model,
                    std::span<const std::int32_t> prompt,
                    std::span<const std::int32_t> stop_tokens,
                    const model::GenerationOptions& options,
                    const std::function<bool(std::int32_t)>& on_token) {
  if (prompt.empty()) {
    throw Error(ErrorCode::kInvalidInput,
                "generate: the prompt, got no token, expected at least 1");
  }
  const auto length = static_cast<std::int64_t>(prompt.size());
  if (length >= model.max_position_embeddings()) {
    throw Error(ErrorCode::kInvalidInput, str("generate: the prompt, got ", length,
                                              " tokens, expected fewer than the model's ",
                                              model.max_position_embeddings(), " positions"));
  }
  const std::int64_t limit =
      std::min(options.max_new_tokens, model.max_position_embeddings() - length);
  std::vector<std::int32_t> context(prompt.begin(), prompt.end());
  Generation result;
  model::DecodeState state;
  std::span<const std::int32_t> next = prompt;
  for (std::int64_t i = 0; i < limit; ++i) {
    Tensor logits = model.decode(state, next);
    const std::int32_t token =
        sample_token({logits.data<float>(), static_cast<std::size_t>(logits.numel())}, context,
                     options, static_cast<std::uint64_t>(i));
    if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
      result.stopped = true;
      break;
    }
    result.tokens.push_back(token);
    context.push_back(token);
    if (on_token && !on_token(token)) break;
    next = std::span(context).last(1);
  }
  return result;
}

}  // namespace moesmith::train
