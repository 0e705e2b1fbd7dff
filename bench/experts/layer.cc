// SPDX-License-Identifier: Apache-2.0
#include "experts/layer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "common/memory.h"
#include "core/checked.h"
#include "experts/cost.h"
#include "experts/routing_sets.h"

namespace moesmith::bench {
namespace {

constexpr int kRoutingSets = 8;

// So many that all of them are four times the last cache.
std::int64_t weight_copies(const Case& c) {
  return ceil_div(4 * last_level_cache_bytes(), weight_bytes(c));
}

}  // namespace

Tensor random_tensor(moesmith::Shape shape, DType dtype, std::uint64_t seed) {
  constexpr std::int64_t kPeriod = (1 << 20) + 7;  // odd: rows of a matrix do not repeat
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  const std::int64_t drawn = std::min(tensor.numel(), kPeriod);
  std::uint64_t state = seed * 2654435769u + 1;
  for (std::int64_t i = 0; i < drawn; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const float value = static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-36f;
    if (dtype == DType::kF32) {
      tensor.data<float>()[i] = value;
    } else {
      tensor.data<bf16>()[i] = bf16(value);
    }
  }
  auto* const bytes = static_cast<char*>(tensor.raw());
  const std::int64_t period = drawn * dtype_size(dtype);
  for (std::int64_t at = period; at < tensor.bytes(); at += period) {
    std::memcpy(bytes + at, bytes, static_cast<std::size_t>(std::min(period, tensor.bytes() - at)));
  }
  return tensor;
}

Layer::Layer(const Case& c, const experts::ExpertsPlan& plan, ThreadPool& pool)
    : num_experts_(c.size.num_experts),
      backward_(c.backward()),
      routing_(routing_sets(c, kRoutingSets)),
      hidden_(random_tensor({c.tokens, c.size.hidden}, c.dtype, 3)),
      d_output_(random_tensor({c.tokens, c.size.hidden}, c.dtype, 4)),
      route_weights_(random_tensor({c.tokens, c.size.top_k}, DType::kF32, 5)),
      output_(Tensor::zeros({c.tokens, c.size.hidden}, c.dtype)) {
  for (std::int64_t copy = 0; copy < weight_copies(c); ++copy) add_weights(c, plan, pool);
  const experts::ExpertsSizes sizes = plan.sizes(c.tokens, pool.num_threads());
  saved_.resize(static_cast<std::size_t>(sizes.saved_bytes));
  scratch_.resize(static_cast<std::size_t>(
      std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)));
  inputs_.num_tokens = c.tokens;
  inputs_.hidden = hidden_.raw();
  inputs_.top_k_weights = route_weights_.raw();
  if (backward_) add_gradients(c, plan.request());
}

experts::ExpertsWeights Layer::Weights::views() const {
  experts::ExpertsWeights weights;
  weights.gate_up = {gate_up_base, gate_up.dim(2)};
  weights.down = {down_base, down.dim(2)};
  return weights;
}

// Gives the pages of a tensor back, as those of a mapped checkpoint go once nobody reads them.
void release(const Tensor& tensor) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.raw());
  const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = (address + page - 1) / page * page;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(tensor.bytes())) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void Layer::add_weights(const Case& c, const experts::ExpertsPlan& plan, ThreadPool& pool) {
  const std::int64_t e = c.size.num_experts, h = c.size.hidden, i = c.size.inter;
  Weights weights{
      random_tensor({e, 2 * i, h}, c.dtype, 1), random_tensor({e, h, i}, c.dtype, 2), {}, {}, {}};
  for (std::int64_t expert = 0; expert < e; ++expert) {
    weights.gate_up_base.push_back(weights.gate_up.rows(expert, expert + 1).raw());
    weights.down_base.push_back(weights.down.rows(expert, expert + 1).raw());
  }
  if (const std::int64_t bytes = plan.packed_bytes(); bytes > 0) {
    weights.packed = Tensor::empty({bytes / 4}, DType::kF32);
    plan.pack(weights.views(),
              {static_cast<std::byte*>(weights.packed.raw()), static_cast<std::size_t>(bytes)},
              pool);
    release(weights.gate_up);
    release(weights.down);
  }
  copies_.push_back(std::move(weights));
}

void* Layer::zeros(moesmith::Shape shape, DType dtype) {
  owned_.push_back(Tensor::zeros(std::move(shape), dtype));
  return owned_.back().raw();
}

void Layer::add_gradients(const Case& c, const experts::ExpertsRequest& r) {
  const std::int64_t e = c.size.num_experts, h = c.size.hidden, i = c.size.inter;
  gradients_.hidden = zeros({c.tokens, h}, c.dtype);
  gradients_.top_k_weights = zeros({c.tokens, c.size.top_k}, DType::kF32);
  if (c.mode == Mode::kFull) {
    gradients_.gate_up = zeros({e, 2 * i, h}, DType::kF32);
    gradients_.down = zeros({e, h, i}, DType::kF32);
    return;
  }
  const std::int64_t rank = r.gate_up_lora.lora_rank;
  for (const auto& [factors, in, out, d_a, d_b] :
       {std::tuple{&inputs_.gate_up_lora, h, 2 * i, &gradients_.gate_up_a, &gradients_.gate_up_b},
        std::tuple{&inputs_.down_lora, i, h, &gradients_.down_a, &gradients_.down_b}}) {
    owned_.push_back(random_tensor({rank * e, in}, DType::kF32, 6));
    factors->a = owned_.back().raw();
    owned_.push_back(random_tensor({out, rank * e}, DType::kF32, 7));
    factors->b = owned_.back().raw();
    *d_a = zeros({rank * e, in}, DType::kF32);
    *d_b = zeros({out, rank * e}, DType::kF32);
  }
}

void Layer::run(int repeat, const experts::ExpertsPlan& plan, ThreadPool& pool) {
  const auto turn = static_cast<std::size_t>(repeat);
  const Weights& weights = copies_[turn % copies_.size()];
  inputs_.top_k_index = routing_[turn % routing_.size()].raw();
  inputs_.weights = weights.views();
  if (plan.packed_bytes() > 0) {
    inputs_.packed_weights = static_cast<const std::byte*>(weights.packed.raw());
  }
  plan.forward({inputs_, output_.raw(), saved_, scratch_}, pool);
  if (backward_) plan.backward({inputs_, d_output_.raw(), saved_, scratch_, gradients_}, pool);
}

double Layer::experts_hit() const {
  std::int64_t hit = 0;
  for (const Tensor& index : routing_) {
    for (const std::int64_t rows : rows_per_expert(index, num_experts_)) hit += rows > 0;
  }
  return static_cast<double>(hit) / static_cast<double>(routing_.size());
}

std::int64_t Layer::further_copies_bytes() const {
  std::int64_t bytes = 0;
  for (std::size_t i = 1; i < copies_.size(); ++i) {
    const Weights& w = copies_[i];
    bytes += w.packed.defined() ? w.packed.bytes() : w.gate_up.bytes() + w.down.bytes();
  }
  return bytes;
}

std::int64_t layer_bytes(const Case& c, const experts::ExpertsPlan& plan, int num_threads) {
  const experts::ExpertsSizes sizes = plan.sizes(c.tokens, num_threads);
  const std::int64_t tokens = c.tokens * c.size.hidden * dtype_size(c.dtype);
  const std::int64_t factors = c.mode == Mode::kLora ? gradient_bytes(c) : 0;
  return weight_copies(c) * (weight_bytes(c) + plan.packed_bytes()) + gradient_bytes(c) + factors +
         4 * tokens + sizes.saved_bytes +
         std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes);
}

}  // namespace moesmith::bench
