// SPDX-License-Identifier: Apache-2.0
#include "oracle.h"

#include <algorithm>
#include <cmath>

namespace moesmith::experts::testing {
namespace {

double kind_value(const ActivationSpec& spec, double x) {
  switch (spec.kind) {
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-static_cast<double>(spec.alpha) * x));
    case ActivationKind::kGelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kRelu:
      return std::max(x, 0.0);
    case ActivationKind::kRelu2:
      return std::max(x, 0.0) * std::max(x, 0.0);
  }
  return NAN;
}

double cut_gate(const ActivationSpec& spec, double g) {
  return spec.gate_max ? std::min(g, static_cast<double>(*spec.gate_max)) : g;
}
double cut_up(const ActivationSpec& spec, double u) {
  const double limit = spec.up_limit ? static_cast<double>(*spec.up_limit) : INFINITY;
  return std::clamp(u, -limit, limit);
}

struct Act {
  const ActivationSpec& spec;
  Round round;

  double value(double g, double u) const {
    const double act = round(kind_value(spec, cut_gate(spec, g)));
    if (!spec.gated) return act;
    return round(act * round(cut_up(spec, u) + static_cast<double>(spec.up_shift)));
  }
  // Derivatives as central differences: nothing to get wrong in a formula.
  double d_gate(double g, double u) const {
    const double step = 1e-5;
    const double slope =
        (kind_value(spec, cut_gate(spec, g + step)) - kind_value(spec, cut_gate(spec, g - step))) /
        (2 * step);
    return spec.gated ? slope * (cut_up(spec, u) + static_cast<double>(spec.up_shift)) : slope;
  }
  double d_up(double g, double u) const {
    const double step = 1e-5;
    return kind_value(spec, cut_gate(spec, g)) * (cut_up(spec, u + step) - cut_up(spec, u - step)) /
           (2 * step);
  }
};

// W + scale * B A for one projection.
Values merged(const Values& w,
              const LoraSpec& lora,
              const Values& a,
              const Values& b,
              std::int64_t num_experts,
              std::int64_t out,
              std::int64_t in,
              Round round) {
  Values result = w;
  if (lora.lora_rank == 0) return result;
  const std::int64_t r = lora.lora_rank;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        double delta = 0;
        for (std::int64_t j = 0; j < r; ++j) {
          delta += b[static_cast<std::size_t>(o * r * num_experts + j * num_experts + e)] *
                   a[static_cast<std::size_t>((e * r + j) * in + i)];
        }
        double& at = result[static_cast<std::size_t>((e * out + o) * in + i)];
        at = round(at + static_cast<double>(lora.lora_scale) * delta);
      }
    }
  }
  return result;
}

// d_w [E, out, in] to the factors' gradients.
void split_gradient(const Values& d_w,
                    const LoraSpec& lora,
                    const Values& a,
                    const Values& b,
                    std::int64_t num_experts,
                    std::int64_t out,
                    std::int64_t in,
                    Values& d_a,
                    Values& d_b) {
  const std::int64_t r = lora.lora_rank;
  d_a.assign(a.size(), 0);
  d_b.assign(b.size(), 0);
  for (std::int64_t e = 0; e < num_experts; ++e) {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        const double d = static_cast<double>(lora.lora_scale) *
                         d_w[static_cast<std::size_t>((e * out + o) * in + i)];
        for (std::int64_t j = 0; j < r; ++j) {
          const auto at_a = static_cast<std::size_t>((e * r + j) * in + i);
          const auto at_b = static_cast<std::size_t>(o * r * num_experts + j * num_experts + e);
          d_a[at_a] += d * b[at_b];
          d_b[at_b] += d * a[at_a];
        }
      }
    }
  }
}

// y[o] = sum_i w[o, i] x[i]
Values product(const double* w, const double* x, std::int64_t out, std::int64_t in, Round round) {
  Values y(static_cast<std::size_t>(out));
  for (std::int64_t o = 0; o < out; ++o) {
    double sum = 0;
    for (std::int64_t i = 0; i < in; ++i) sum += w[o * in + i] * x[i];
    y[static_cast<std::size_t>(o)] = round(sum);
  }
  return y;
}
// x[i] = sum_o w[o, i] y[o]
Values product_t(const double* w, const double* y, std::int64_t out, std::int64_t in, Round round) {
  Values x(static_cast<std::size_t>(in), 0.0);
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t i = 0; i < in; ++i) x[static_cast<std::size_t>(i)] += w[o * in + i] * y[o];
  }
  for (double& at : x) at = round(at);
  return x;
}

void add(double* to, const Values& from) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

void add_outer(double* to, const Values& out, const double* in, std::int64_t num_in) {
  for (std::size_t o = 0; o < out.size(); ++o) {
    for (std::int64_t i = 0; i < num_in; ++i) {
      to[static_cast<std::int64_t>(o) * num_in + i] += out[o] * in[i];
    }
  }
}

struct Slot {
  const ExpertsRequest& r;
  const Data& data;
  const Values& w_1;
  const Values& w_2;
  Round round;
  Results& results;

  void run(std::int64_t token, std::int64_t slot, std::int64_t e) const {
    const std::int64_t hidden = r.hidden, inter = r.inter, width = r.gate_up_width();
    const double* x = data.hidden.data() + token * hidden;
    const double* w_1e = w_1.data() + e * width * hidden;
    const double* w_2e = w_2.data() + e * hidden * inter;
    const bool gated = r.activation.gated;
    const bool interleaved = gated && r.gate_up_layout == GateUpLayout::kInterleaved;
    const auto gate_at = [&](std::int64_t i) {
      return static_cast<std::size_t>(interleaved ? 2 * i : i);
    };
    const auto up_at = [&](std::int64_t i) {
      return static_cast<std::size_t>(interleaved ? 2 * i + 1 : inter + i);
    };

    Values h = product(w_1e, x, width, hidden, round);
    if (r.gate_up_bias) {
      for (std::int64_t j = 0; j < width; ++j) {
        double& at = h[static_cast<std::size_t>(j)];
        at = round(at + data.bias_1[static_cast<std::size_t>(e * width + j)]);
      }
    }
    const Act act{r.activation, round};
    Values a(static_cast<std::size_t>(inter));
    for (std::int64_t i = 0; i < inter; ++i) {
      a[static_cast<std::size_t>(i)] = act.value(h[gate_at(i)], gated ? h[up_at(i)] : 0);
    }
    Values y = product(w_2e, a.data(), hidden, inter, round);
    if (r.down_bias) {
      for (std::int64_t j = 0; j < hidden; ++j) {
        double& at = y[static_cast<std::size_t>(j)];
        at = round(at + data.bias_2[static_cast<std::size_t>(e * hidden + j)]);
      }
    }
    const double weight = data.route_weights[static_cast<std::size_t>(slot)];
    const double* dy = data.d_output.data() + token * hidden;
    double d_weight = 0;
    Values dyw(static_cast<std::size_t>(hidden));
    for (std::int64_t j = 0; j < hidden; ++j) {
      const auto at = static_cast<std::size_t>(j);
      double& out = results.output[static_cast<std::size_t>(token * hidden + j)];
      out = round(out + round(weight * y[at]));
      d_weight += dy[j] * y[at];
      dyw[at] = round(dy[j] * weight);
    }
    results.route_weights[static_cast<std::size_t>(slot)] = round(d_weight);

    const Values d_a = product_t(w_2e, dyw.data(), hidden, inter, round);
    Values d_h(static_cast<std::size_t>(width));
    for (std::int64_t i = 0; i < inter; ++i) {
      const double g = h[gate_at(i)], u = gated ? h[up_at(i)] : 0;
      const double d = d_a[static_cast<std::size_t>(i)];
      d_h[gate_at(i)] = round(d * act.d_gate(g, u));
      if (gated) d_h[up_at(i)] = round(d * act.d_up(g, u));
    }
    const Values d_x = product_t(w_1e, d_h.data(), width, hidden, round);
    add(results.hidden.data() + token * hidden, d_x);
    add_outer(results.w_1.data() + e * width * hidden, d_h, x, hidden);
    add_outer(results.w_2.data() + e * hidden * inter, dyw, a.data(), inter);
    if (r.gate_up_bias) add(results.bias_1.data() + e * width, d_h);
    if (r.down_bias) add(results.bias_2.data() + e * hidden, dyw);
  }
};

}  // namespace

double no_rounding(double x) { return x; }
double round_to_bf16(double x) { return static_cast<float>(bf16(static_cast<float>(x))); }

Results run_oracle(const ExpertsRequest& r,
                   std::int64_t num_tokens,
                   const Data& data,
                   Round round) {
  const std::int64_t num_experts = r.num_experts, width = r.gate_up_width();
  const Values w_1 =
      merged(data.w_1, r.gate_up_lora, data.a_1, data.b_1, num_experts, width, r.hidden, round);
  const Values w_2 =
      merged(data.w_2, r.down_lora, data.a_2, data.b_2, num_experts, r.hidden, r.inter, round);
  Results results;
  results.output.assign(data.hidden.size(), 0);
  results.hidden.assign(data.hidden.size(), 0);
  results.route_weights.assign(data.route_weights.size(), 0);
  results.w_1.assign(data.w_1.size(), 0);
  results.w_2.assign(data.w_2.size(), 0);
  results.bias_1.assign(data.bias_1.size(), 0);
  results.bias_2.assign(data.bias_2.size(), 0);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t k = 0; k < r.top_k; ++k) {
      const std::int64_t slot = token * r.top_k + k;
      const std::int64_t e = data.index[static_cast<std::size_t>(slot)];
      if (e < 0 || e >= num_experts) continue;
      Slot{r, data, w_1, w_2, round, results}.run(token, slot, e);
    }
  }
  for (Values* sums :
       {&results.hidden, &results.w_1, &results.w_2, &results.bias_1, &results.bias_2}) {
    for (double& at : *sums) at = round(at);
  }
  split_gradient(results.w_1, r.gate_up_lora, data.a_1, data.b_1, num_experts, width, r.hidden,
                 results.a_1, results.b_1);
  split_gradient(results.w_2, r.down_lora, data.a_2, data.b_2, num_experts, r.hidden, r.inter,
                 results.a_2, results.b_2);
  return results;
}

}  // namespace moesmith::experts::testing
