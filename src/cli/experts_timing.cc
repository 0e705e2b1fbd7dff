// SPDX-License-Identifier: Apache-2.0
#include "cli/experts_timing.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "core/checked.h"
#include "core/rng.h"
#include "kernels/gemm/gemm.h"
#include "moesmith/tensor.h"

namespace moesmith::cli {
namespace {

using experts::GradMode;
using experts::GradSpec;

// Random numbers that repeat after about a million: drawing billions takes longer than what is
// timed.
Tensor random_tensor(Shape shape, DType dtype, double scale, std::uint64_t stream) {
  constexpr std::int64_t kPeriod = (1 << 20) + 7;
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  const std::int64_t drawn = std::min(tensor.numel(), kPeriod);
  const Rng rng(1, stream);
  for (std::int64_t i = 0; i < drawn; ++i) {
    const auto value = static_cast<float>(
        scale * (static_cast<double>(rng.uniform(static_cast<std::uint64_t>(i))) - 0.5));
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

// Distinct experts for each token.
Tensor routing(const LayerCase& c, std::uint64_t set) {
  const std::int64_t count = c.shape.num_experts, k = c.shape.top_k;
  Tensor index = Tensor::empty({c.tokens, k}, DType::kI64);
  auto* at = index.data<std::int64_t>();
  const Rng rng(2, set);
  std::uint64_t draw = 0;
  for (std::int64_t t = 0; t < c.tokens; ++t, at += k) {
    for (std::int64_t chosen = 0; chosen < k;) {
      const double u = static_cast<double>(rng.uniform(draw++));
      const double n = static_cast<double>(count);
      const auto e =
          std::min(count - 1, static_cast<std::int64_t>(c.skewed ? std::pow(n + 1, u) - 1 : n * u));
      if (std::find(at, at + chosen, e) == at + chosen) at[chosen++] = e;
    }
  }
  return index;
}

std::int64_t copies_of_weights(const LayerCase& c) {
  const std::int64_t cache = std::max<std::int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 32 << 20);
  const std::int64_t bytes =
      3 * c.shape.num_experts * c.shape.hidden * c.shape.inter * dtype_size(c.dtype);
  return std::min<std::int64_t>(ceil_div(2 * cache, bytes) + 1, 16);
}

struct Weights {
  Tensor gate_up, down;  // [E, 2I, H], [E, H, I]
  std::vector<const void*> gate_up_base, down_base;
};

class Layer {
 public:
  Layer(const LayerCase& c, const experts::ExpertsPlan& plan, ThreadPool& pool)
      : case_(c),
        plan_(plan),
        pool_(pool),
        x_(random_tensor({c.tokens, c.shape.hidden}, c.dtype, 2.0, 3)),
        dy_(random_tensor({c.tokens, c.shape.hidden}, c.dtype, 2.0, 4)),
        route_weights_(random_tensor({c.tokens, c.shape.top_k}, DType::kF32, 1.0, 5)),
        y_(Tensor::zeros({c.tokens, c.shape.hidden}, c.dtype)) {
    const std::int64_t e = c.shape.num_experts, h = c.shape.hidden, i = c.shape.inter;
    for (std::int64_t copy = 0; copy < copies_of_weights(c); ++copy) {
      Weights w{random_tensor({e, 2 * i, h}, c.dtype, 0.1, 1),
                random_tensor({e, h, i}, c.dtype, 0.1, 2),
                {},
                {}};
      for (std::int64_t expert = 0; expert < e; ++expert) {
        w.gate_up_base.push_back(w.gate_up.rows(expert, expert + 1).raw());
        w.down_base.push_back(w.down.rows(expert, expert + 1).raw());
      }
      weights_.push_back(std::move(w));
    }
    for (std::uint64_t set = 0; set < 4; ++set) routings_.push_back(routing(c, set));
    sizes_ = plan.sizes(c.tokens, pool.num_threads());
    saved_.resize(static_cast<std::size_t>(sizes_.saved_bytes));
    scratch_.resize(static_cast<std::size_t>(
        std::max(sizes_.forward_scratch_bytes, sizes_.backward_scratch_bytes)));
    inputs_.num_tokens = c.tokens;
    inputs_.hidden = x_.raw();
    inputs_.top_k_weights = route_weights_.raw();
    if (c.mode != LayerMode::kForward) make_gradients();
  }

  void run(std::size_t turn) {
    const Weights& w = weights_[turn % weights_.size()];
    inputs_.top_k_index = routings_[turn % routings_.size()].raw();
    inputs_.weights.gate_up = {w.gate_up_base, case_.shape.hidden};
    inputs_.weights.down = {w.down_base, case_.shape.inter};
    plan_.forward({inputs_, y_.raw(), saved_, scratch_}, pool_);
    if (case_.mode == LayerMode::kForward) return;
    plan_.backward({inputs_, dy_.raw(), saved_, scratch_, gradients_}, pool_);
  }
  const Weights& weights(std::size_t turn) const { return weights_[turn % weights_.size()]; }
  std::int64_t saved_bytes() const { return sizes_.saved_bytes; }
  std::int64_t scratch_bytes() const { return static_cast<std::int64_t>(scratch_.size()); }

 private:
  void* zeros(Shape shape, DType dtype) {
    owned_.push_back(Tensor::zeros(std::move(shape), dtype));
    return owned_.back().raw();
  }
  const void* factor(Shape shape) {
    owned_.push_back(random_tensor(std::move(shape), DType::kF32, 0.1, 6));
    return owned_.back().raw();
  }
  void make_gradients() {
    const std::int64_t e = case_.shape.num_experts, h = case_.shape.hidden, i = case_.shape.inter;
    gradients_.hidden = zeros({case_.tokens, h}, case_.dtype);
    gradients_.top_k_weights = zeros({case_.tokens, case_.shape.top_k}, DType::kF32);
    if (case_.mode == LayerMode::kFull) {
      gradients_.gate_up = zeros({e, 2 * i, h}, DType::kF32);
      gradients_.down = zeros({e, h, i}, DType::kF32);
      return;
    }
    const std::int64_t rank = case_.lora_rank * e;
    inputs_.gate_up_lora = {factor({rank, h}), factor({2 * i, rank})};
    inputs_.down_lora = {factor({rank, i}), factor({h, rank})};
    gradients_.gate_up_a = zeros({rank, h}, DType::kF32);
    gradients_.gate_up_b = zeros({2 * i, rank}, DType::kF32);
    gradients_.down_a = zeros({rank, i}, DType::kF32);
    gradients_.down_b = zeros({h, rank}, DType::kF32);
  }

  const LayerCase& case_;
  const experts::ExpertsPlan& plan_;
  ThreadPool& pool_;
  Tensor x_, dy_, route_weights_, y_;
  std::vector<Weights> weights_;
  std::vector<Tensor> routings_, owned_;
  experts::ExpertsSizes sizes_;
  std::vector<std::byte> saved_, scratch_;
  experts::ExpertsInputs inputs_;
  experts::ExpertsGradients gradients_;
};

// The layer's base products without anything around them, rows spread evenly over the experts that
// can have one.
class Dense {
 public:
  explicit Dense(const LayerCase& c)
      : case_(c),
        experts_(std::min(c.shape.num_experts, c.tokens * c.shape.top_k)),
        rows_(ceil_div(c.tokens * c.shape.top_k, experts_)),
        narrow_(random_tensor({rows_, c.shape.hidden}, c.dtype, 2.0, 7)),
        wide_(random_tensor({rows_, 2 * c.shape.inter}, c.dtype, 2.0, 8)),
        inner_(random_tensor({rows_, c.shape.inter}, c.dtype, 2.0, 9)) {
    if (c.mode != LayerMode::kFull) return;
    d_gate_up_ = Tensor::zeros({2 * c.shape.inter, c.shape.hidden}, DType::kF32);
    d_down_ = Tensor::zeros({c.shape.hidden, c.shape.inter}, DType::kF32);
  }
  double flops() const {
    return case_.flops() * static_cast<double>(experts_ * rows_) /
           static_cast<double>(case_.tokens * case_.shape.top_k);
  }
  void run(const Weights& w, ThreadPool& pool) {
    const std::int64_t h = case_.shape.hidden, i = case_.shape.inter;
    const DType d = case_.dtype;
    const auto multiply = [&](std::int64_t m, std::int64_t n, std::int64_t k,
                              kernels::gemm::Operand a, kernels::gemm::Operand b, Tensor& to) {
      kernels::gemm::Args args;
      args.m = m, args.n = n, args.k = k, args.a = a, args.b = b;
      args.c = to.raw(), args.c_dtype = to.dtype(), args.ldc = n;
      kernels::gemm::run(args, pool);
    };
    const auto plain = [&](const Tensor& x, std::int64_t cols) {
      return kernels::gemm::row_major(x.raw(), d, cols);
    };
    const auto flipped = [&](const void* x, std::int64_t cols) {
      return kernels::gemm::transposed(x, d, cols);
    };
    for (std::int64_t e = 0; e < experts_; ++e) {
      const void* first = w.gate_up_base[static_cast<std::size_t>(e)];
      const void* second = w.down_base[static_cast<std::size_t>(e)];
      multiply(rows_, 2 * i, h, plain(narrow_, h), flipped(first, h), wide_);
      multiply(rows_, h, i, plain(inner_, i), flipped(second, i), narrow_);
      if (case_.mode == LayerMode::kForward) continue;
      multiply(rows_, i, h, plain(narrow_, h), kernels::gemm::row_major(second, d, i), inner_);
      multiply(rows_, h, 2 * i, plain(wide_, 2 * i), kernels::gemm::row_major(first, d, h),
               narrow_);
      if (case_.mode == LayerMode::kLora) continue;
      multiply(2 * i, h, rows_, flipped(wide_.raw(), 2 * i), plain(narrow_, h), d_gate_up_);
      multiply(h, i, rows_, flipped(narrow_.raw(), h), plain(inner_, i), d_down_);
    }
  }

 private:
  const LayerCase& case_;
  std::int64_t experts_, rows_;
  Tensor narrow_, wide_, inner_;
  Tensor d_gate_up_, d_down_;
};

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(
      std::lround(share * static_cast<double>(values.size() - 1)))];
}

}  // namespace

const std::vector<LayerShape>& layer_shapes() {
  static const std::vector<LayerShape> shapes = {
      {"tiny", 8, 2, 64, 32},
      {"qwen3-30b-a3b", 128, 8, 2048, 768},
      {"olmoe-1b-7b", 64, 8, 2048, 1024},
      {"mixtral-8x7b", 8, 2, 4096, 14336},
      {"qwen3-next-80b", 512, 10, 2048, 512},
  };
  return shapes;
}

double LayerCase::flops() const {
  const double passes = mode == LayerMode::kForward ? 1 : mode == LayerMode::kLora ? 2 : 3;
  return passes * 6.0 * static_cast<double>(tokens * shape.top_k) *
         static_cast<double>(shape.hidden * shape.inter);
}

experts::ExpertsRequest LayerCase::request(const std::string& implementation) const {
  experts::ExpertsRequest r;
  r.implementation = implementation;
  r.num_experts = shape.num_experts, r.top_k = shape.top_k;
  r.hidden = shape.hidden, r.inter = shape.inter, r.max_tokens = tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = dtype;
  r.aligned_weights = true;
  if (mode == LayerMode::kForward) return r;
  const GradSpec f32{GradMode::kOverwrite, DType::kF32};
  r.wanted.hidden = {GradMode::kOverwrite, dtype};
  r.wanted.top_k_weights = f32;
  if (mode == LayerMode::kFull) {
    r.wanted.gate_up = r.wanted.down = f32;
    return r;
  }
  r.gate_up_lora = r.down_lora = {.lora_rank = lora_rank, .lora_scale = 2.0f, .dtype = DType::kF32};
  r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.down_a = r.wanted.down_b = f32;
  return r;
}

LayerTiming time_layer(const LayerCase& c,
                       const experts::ExpertsPlan& plan,
                       double seconds,
                       ThreadPool& pool) {
  Layer layer(c, plan, pool);
  Dense dense(c);
  const auto timed = [](const auto& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<double> times, shares;
  double spent = 0;
  for (std::size_t turn = 0; turn < 4 || spent < seconds; ++turn) {
    const double bound = timed([&] { dense.run(layer.weights(turn + 1), pool); });
    const double ours = timed([&] { layer.run(turn); });
    if (turn == 0) continue;  // touches every page once
    spent += bound + ours;
    times.push_back(1e3 * ours);
    shares.push_back(bound * c.flops() / dense.flops() / ours);
  }
  return {quantile(times, 0.5),          quantile(times, 0.1), quantile(times, 0.9),
          quantile(shares, 0.5),         layer.saved_bytes(),  layer.scratch_bytes(),
          static_cast<int>(times.size())};
}

}  // namespace moesmith::cli
