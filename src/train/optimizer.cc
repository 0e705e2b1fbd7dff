// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/adamw/adamw.h"

namespace moesmith::train {
namespace {

constexpr std::int64_t kZeroChunk = 1 << 18;

}  // namespace

bool weight_decay_applies(const std::string& name) {
  return !name.ends_with("bias") && name.find("norm") == std::string::npos;
}

Optimizer::Optimizer(const std::vector<model::Parameter*>& parameters,
                     const TrainOptions& options,
                     ThreadPool& pool)
    : beta1_(options.adam_beta1),
      beta2_(options.adam_beta2),
      epsilon_(options.adam_epsilon),
      weight_decay_(options.weight_decay),
      max_grad_norm_(options.max_grad_norm),
      pool_(pool) {
  for (model::Parameter* parameter : parameters) {
    if (!parameter->trainable) continue;
    slots_.push_back({parameter, Tensor::zeros(parameter->master.shape(), DType::kF32),
                      Tensor::zeros(parameter->master.shape(), DType::kF32),
                      weight_decay_applies(parameter->name)});
  }
}

void Optimizer::zero_grads() {
  for (Slot& slot : slots_) {
    float* grad = slot.parameter->grad.data<float>();
    pool_.for_chunks(
        slot.parameter->grad.numel(), kZeroChunk, [&](std::int64_t begin, std::int64_t end) {
          std::memset(grad + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
        });
  }
}

double Optimizer::grad_norm() const {
  double sum = 0.0;
  for (const Slot& slot : slots_) {
    const Tensor& grad = slot.parameter->grad;
    sum += kernels::adamw::sum_of_squares(grad.data<float>(), grad.numel(), pool_);
  }
  return std::sqrt(sum);
}

void Optimizer::step(double lr, std::int64_t steps_done, double grad_norm) {
  const double clip =
      max_grad_norm_ > 0.0 ? std::min(1.0, max_grad_norm_ / (grad_norm + 1e-6)) : 1.0;
  for (Slot& slot : slots_) {
    const kernels::adamw::Hyper hyper{.lr = lr,
                                      .beta1 = beta1_,
                                      .beta2 = beta2_,
                                      .epsilon = epsilon_,
                                      .weight_decay = slot.decays ? weight_decay_ : 0.0};
    model::Parameter& parameter = *slot.parameter;
    kernels::adamw::run(
        {parameter.master.data<float>(), slot.exp_avg.data<float>(), slot.exp_avg_sq.data<float>(),
         parameter.grad.data<float>(), parameter.master.numel()},
        kernels::adamw::coefficients(hyper, steps_done + 1, clip), pool_);
  }
}

}  // namespace moesmith::train
