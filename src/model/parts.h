// SPDX-License-Identifier: Apache-2.0
// Names of a step's parts, under which the decoder and the loop are profiled (core/profile.h).
#pragma once

namespace moesmith::model::part {

inline constexpr const char* kExperts = "experts";
// x W^T, dy W and dy^T x of every other weight matrix: attention, dense MLPs, router, lm_head.
inline constexpr const char* kDense = "dense products";
inline constexpr const char* kLora = "adapters of dense layers";
inline constexpr const char* kAttention = "attention core";
inline constexpr const char* kNorms = "norms";
inline constexpr const char* kRope = "rope";
inline constexpr const char* kRouter = "router";  // softmax, top-k and back; its product is dense
inline constexpr const char* kElementwise = "residuals and casts";
inline constexpr const char* kEmbedding = "embedding";
inline constexpr const char* kLoss = "loss";
inline constexpr const char* kOptimiser = "optimiser";
inline constexpr const char* kData = "data";
inline constexpr const char* kOther = "other";

}  // namespace moesmith::model::part
