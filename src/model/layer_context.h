// SPDX-License-Identifier: Apache-2.0
// What every layer needs of the step under way.
#pragma once

#include <cstdint>
#include <span>

#include "core/thread_pool.h"
#include "kernels/attention/attention.h"
#include "kernels/rope/rope.h"
#include "model/arena.h"
#include "model/linear.h"
#include "model/spec.h"
#include "moesmith/tensor.h"

namespace moesmith::model {

// Keys and values of one layer's cache: [capacity, kv_width] in the compute dtype.
struct CacheRows {
  Tensor* k = nullptr;
  Tensor* v = nullptr;
  std::int64_t length = 0;  // rows held before this step
};

struct LayerContext {
  LayerContext(const DecoderSpec& spec_in,
               ThreadPool& pool_in,
               Arena& arena_in,
               const kernels::rope::Table& rope_in)
      : spec(spec_in), pool(pool_in), arena(arena_in), rope(rope_in) {}

  const DecoderSpec& spec;
  ThreadPool& pool;
  Arena& arena;  // scratch; every call leaves it as it was found
  const kernels::rope::Table& rope;
  std::int64_t num_tokens = 0;
  std::span<const std::int32_t> positions;
  std::span<const kernels::attention::Segment> segments;
  CacheRows cache;        // of the layer under way; k nullptr: keys and values are the batch's own
  bool training = false;  // a backward pass follows: keep what it needs
  // Linear layers draw from stream `stream_base` + their own number.
  double dropout = 0;
  std::uint64_t dropout_seed = 0, dropout_stream_base = 0;

  LinearContext linear(std::uint64_t number) const {
    return {pool, arena, {dropout, dropout_seed, dropout_stream_base + number}};
  }
};

// Numbers of a layer's linear modules, for dropout streams; the layers are kLinearsPerLayer apart.
enum LinearNumber : std::uint64_t {
  kQ,
  kK,
  kV,
  kO,
  kGate,
  kUp,
  kDown,
  kRouter,
  kSharedGate,
  kLinearsPerLayer = 16
};

}  // namespace moesmith::model
