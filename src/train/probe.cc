// SPDX-License-Identifier: Apache-2.0
#include "train/probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <limits>
#include <sstream>

#include "core/check.h"
#include "core/rng.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

constexpr std::int32_t kProbeSamples = 2;
constexpr std::int32_t kProbeLength = 16;
constexpr std::uint64_t kProbeStream = 0x70726f6265;

}  // namespace

model::Batch probe_batch(std::int64_t vocab_size) {
  const Rng rng(1, kProbeStream);
  model::Batch batch;
  batch.segment_offsets = {0};
  for (std::int32_t sample = 0; sample < kProbeSamples; ++sample) {
    for (std::int32_t i = 0; i < kProbeLength; ++i) {
      const std::uint64_t index = 2 * batch.input_ids.size();
      batch.input_ids.push_back(
          static_cast<std::int32_t>(rng.below(index, static_cast<std::uint64_t>(vocab_size))));
      batch.position_ids.push_back(i);
    }
    batch.segment_offsets.push_back(static_cast<std::int64_t>(batch.input_ids.size()));
  }
  for (std::size_t i = 0; i < batch.input_ids.size(); ++i) {
    const bool last = (i + 1) % kProbeLength == 0;
    batch.labels.push_back(last ? model::kIgnoreLabel : batch.input_ids[i + 1]);
  }
  return batch;
}

double probe_loss(model::CausalLM& model) {
  const auto loss = model.evaluate(probe_batch(model.vocab_size()));
  return loss.sum / static_cast<double>(loss.num_tokens);
}

LogitsDifference compare_logits(const Tensor& a, const Tensor& b) {
  MOESMITH_ASSERT(a.shape() == b.shape(), "both models saw the same batch");
  LogitsDifference difference;
  difference.bitwise = std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())) == 0;
  const float* x = a.data<float>();
  const float* y = b.data<float>();
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double gap = std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
    difference.worst =
        std::isnan(gap) ? std::numeric_limits<double>::infinity() : std::max(difference.worst, gap);
    difference.largest = std::max(difference.largest, static_cast<double>(std::abs(y[i])));
  }
  return difference;
}

double logits_tolerance(DType compute_dtype) {
  return compute_dtype == DType::kF32 ? 1e-5 : 0x1p-6;
}

std::string check_logits(const LogitsDifference& difference,
                         DType compute_dtype,
                         const std::string& folder) {
  if (difference.bitwise) return "logits bitwise equal";
  const double share = difference.worst / std::max(difference.largest, 1e-30);
  std::ostringstream text;
  text << std::setprecision(2) << share;
  if (!(share <= logits_tolerance(compute_dtype))) {
    throw Error(
        ErrorCode::kIo,
        str(folder,
            ": read back, the weights give other logits than the model that was saved: off "
            "by ",
            text.str(), " of the largest, expected at most ", logits_tolerance(compute_dtype)));
  }
  return "logits equal to " + text.str() + " of the largest";
}

}  // namespace moesmith::train
