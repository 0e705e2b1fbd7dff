// SPDX-License-Identifier: Apache-2.0
#include "cli/experts_timing.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "core/checked.h"
#include "kernels/gemm/gemm.h"

namespace moesmith::cli {
namespace {

std::int64_t copies_of_weights(const LayerCase& c) {
  const std::int64_t cache = std::max<std::int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 32 << 20);
  const std::int64_t bytes =
      3 * c.shape.num_experts * c.shape.hidden * c.shape.inter * dtype_size(c.dtype);
  return std::min<std::int64_t>(ceil_div(2 * cache, bytes) + 1, 16);
}

struct Weights {
  Tensor gate_up, down;            // [E, 2I, H], [E, H, I]
  Tensor gate_up_bias, down_bias;  // where the case has them
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
                {},
                {},
                {}};
      if (c.shape.gpt_oss) {
        w.gate_up_bias = random_tensor({e, 2 * i}, c.dtype, 0.1, 10);
        w.down_bias = random_tensor({e, h}, c.dtype, 0.1, 11);
      }
      for (std::int64_t expert = 0; expert < e; ++expert) {
        w.gate_up_base.push_back(w.gate_up.rows(expert, expert + 1).raw());
        w.down_base.push_back(w.down.rows(expert, expert + 1).raw());
      }
      weights_.push_back(std::move(w));
    }
    for (std::uint64_t set = 0; set < 4; ++set) routings_.push_back(c.routing(set));
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
    if (case_.shape.gpt_oss) {
      inputs_.weights.gate_up_bias = w.gate_up_bias.raw();
      inputs_.weights.down_bias = w.down_bias.raw();
    }
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

}  // namespace

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
  std::vector<double> times, shares, bounds;
  double spent = 0;
  for (std::size_t turn = 0; turn < 4 || spent < seconds; ++turn) {
    const double bound = timed([&] { dense.run(layer.weights(turn + 1), pool); });
    const double ours = timed([&] { layer.run(turn); });
    if (turn == 0) continue;  // touches every page once
    spent += bound + ours;
    times.push_back(1e3 * ours);
    bounds.push_back(1e3 * bound * c.flops() / dense.flops());
    shares.push_back(bounds.back() / times.back());
  }
  return {.ms = quantile(times, 0.5),
          .ms_p10 = quantile(times, 0.1),
          .ms_p90 = quantile(times, 0.9),
          .share_of_dense = quantile(shares, 0.5),
          .dense_ms = quantile(bounds, 0.5),
          .saved_bytes = layer.saved_bytes(),
          .scratch_bytes = layer.scratch_bytes(),
          .repeats = static_cast<int>(times.size())};
}

}  // namespace moesmith::cli
