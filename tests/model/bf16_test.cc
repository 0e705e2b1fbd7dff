// SPDX-License-Identifier: Apache-2.0
// bf16 against f32 on the same weights, measured by what a naive bf16 model loses: each operation's
// result rounded, sums in f32, as torch does on the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "fixture.h"
#include "model/spec.h"

namespace moesmith::model {
namespace {

using Rows = std::vector<std::vector<double>>;  // [tokens][width]

double rounded(double x) {
  return static_cast<double>(static_cast<float>(bf16(static_cast<float>(x))));
}

// A qwen3_moe decoder in plain loops. `round` is applied to the result of every operation.
class Naive {
 public:
  Naive(CausalLM& model, std::function<double(double)> round)
      : spec_(model.spec()), round_(std::move(round)) {
    for (const Parameter* p : model.parameters()) weights_[p->name] = values_of(p->master);
  }

  // One sample from position 0.
  Rows logits(const std::vector<std::int32_t>& ids) {
    const auto h = static_cast<std::size_t>(spec_.hidden_size);
    Rows x(ids.size(), std::vector<double>(h));
    const auto& table = weights_.at("model.embed_tokens.weight");
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t i = 0; i < h; ++i) {
        x[t][i] = static_cast<double>(table[static_cast<std::size_t>(ids[t]) * h + i]);
      }
    }
    for (std::int64_t l = 0; l < spec_.num_layers(); ++l) {
      const std::string prefix = "model.layers." + std::to_string(l) + ".";
      add(x, attention(norm(x, prefix + "input_layernorm.weight"), prefix + "self_attn."));
      add(x, experts(norm(x, prefix + "post_attention_layernorm.weight"), prefix + "mlp."));
    }
    return linear(norm(x, "model.norm.weight"), "lm_head.weight");
  }

 private:
  void add(Rows& x, const Rows& y) {
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] = round_(x[t][i] + y[t][i]);
    }
  }

  // Over groups of as many elements as the weight has.
  Rows norm(const Rows& x, const std::string& name) {
    const auto& w = weights_.at(name);
    Rows y = x;
    for (auto& row : y) {
      for (std::size_t at = 0; at < row.size(); at += w.size()) {
        double squares = 0;
        for (std::size_t i = 0; i < w.size(); ++i) squares += row[at + i] * row[at + i];
        const double rstd = 1 / std::sqrt(squares / static_cast<double>(w.size()) +
                                          static_cast<double>(spec_.rms_norm_eps));
        for (std::size_t i = 0; i < w.size(); ++i) {
          row[at + i] = round_(round_(row[at + i] * rstd) * static_cast<double>(w[i]));
        }
      }
    }
    return y;
  }

  std::vector<double> matvec(const std::vector<double>& x, const float* w, std::size_t out) {
    std::vector<double> y(out);
    for (std::size_t o = 0; o < out; ++o) {
      double sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i)
        sum += x[i] * static_cast<double>(w[o * x.size() + i]);
      y[o] = round_(sum);
    }
    return y;
  }
  Rows linear(const Rows& x, const std::string& name) {
    const auto& w = weights_.at(name);
    Rows y;
    for (const auto& row : x) y.push_back(matvec(row, w.data(), w.size() / row.size()));
    return y;
  }

  void rotate(Rows& x) {
    const auto half = spec_.rope.inv_freq.size();
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t at = 0; at < x[t].size(); at += 2 * half) {
        for (std::size_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(t) * static_cast<double>(spec_.rope.inv_freq[i]);
          const double c = round_(std::cos(angle)), s = round_(std::sin(angle));
          const double a = x[t][at + i], b = x[t][at + half + i];
          x[t][at + i] = round_(round_(a * c) - round_(b * s));
          x[t][at + half + i] = round_(round_(b * c) + round_(a * s));
        }
      }
    }
  }

  Rows attention(const Rows& x, const std::string& prefix) {
    Rows q = norm(linear(x, prefix + "q_proj.weight"), prefix + "q_norm.weight");
    Rows k = norm(linear(x, prefix + "k_proj.weight"), prefix + "k_norm.weight");
    const Rows v = linear(x, prefix + "v_proj.weight");
    rotate(q);
    rotate(k);
    const auto dim = static_cast<std::size_t>(spec_.head_dim);
    const auto group = static_cast<std::size_t>(spec_.num_heads / spec_.num_kv_heads);
    Rows out(x.size(), std::vector<double>(q[0].size()));
    for (std::size_t head = 0; head < static_cast<std::size_t>(spec_.num_heads); ++head) {
      const std::size_t qa = head * dim, ka = head / group * dim;
      for (std::size_t t = 0; t < x.size(); ++t) {
        std::vector<double> p(t + 1);
        double total = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          double dot = 0;
          for (std::size_t d = 0; d < dim; ++d) dot += q[t][qa + d] * k[j][ka + d];
          total += p[j] = std::exp(round_(round_(dot) / std::sqrt(static_cast<double>(dim))));
        }
        for (std::size_t d = 0; d < dim; ++d) {
          double sum = 0;
          for (std::size_t j = 0; j <= t; ++j) sum += round_(p[j] / total) * v[j][ka + d];
          out[t][qa + d] = round_(sum);
        }
      }
    }
    return linear(out, prefix + "o_proj.weight");
  }

  Rows experts(const Rows& x, const std::string& prefix) {
    const Rows router = linear(x, prefix + "gate.weight");
    const auto& gate_up = weights_.at(prefix + "experts.gate_up_proj");
    const auto& down = weights_.at(prefix + "experts.down_proj");
    const auto h = static_cast<std::size_t>(spec_.hidden_size);
    const auto inter = static_cast<std::size_t>(spec_.expert_intermediate);
    Rows y(x.size(), std::vector<double>(h));
    for (std::size_t t = 0; t < x.size(); ++t) {
      std::vector<double> p = router[t];
      double total = 0;
      for (double& v : p) total += v = std::exp(v);
      for (double& v : p) v /= total;
      std::vector<std::size_t> chosen;
      double sum = 0;
      for (std::int64_t s = 0; s < spec_.top_k; ++s) {
        const auto best =
            static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
        chosen.push_back(best);
        weights_of_token_.push_back(p[best]);
        sum += p[best];
        p[best] = -1;
      }
      for (std::size_t s = 0; s < chosen.size(); ++s) {
        const double weight = round_(weights_of_token_[s] / sum);
        const auto both = matvec(x[t], gate_up.data() + chosen[s] * 2 * inter * h, 2 * inter);
        std::vector<double> act(inter);
        for (std::size_t i = 0; i < inter; ++i) {
          act[i] = round_(round_(both[i] / (1 + std::exp(-both[i]))) * both[inter + i]);
        }
        const auto part = matvec(act, down.data() + chosen[s] * h * inter, h);
        for (std::size_t i = 0; i < h; ++i) y[t][i] = round_(y[t][i] + round_(part[i] * weight));
      }
      weights_of_token_.clear();
    }
    return y;
  }

  const DecoderSpec& spec_;
  std::function<double(double)> round_;
  std::map<std::string, std::vector<float>> weights_;
  std::vector<double> weights_of_token_;
};

std::vector<double> flat(const Rows& rows) {
  std::vector<double> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

// An f32 model whose weights are those of the bf16 one.
CausalLM rounded_model(const std::string& name, ThreadPool& pool) {
  CausalLM model = CausalLM::load(request_for(name, TrainMode::kAllWeights), pool);
  for (Parameter* p : model.parameters()) {
    for (std::int64_t i = 0; i < p->master.numel(); ++i) {
      float& v = p->master.data<float>()[i];
      v = static_cast<float>(bf16(v));
    }
  }
  model.sync_values();
  return model;
}

TEST(bf16, logits_lose_at_most_twice_what_a_naive_model_loses) {
  ThreadPool pool(2);
  for (const char* name : {"qwen3_moe", "qwen3_moe_aux_router_adapter"}) {
    CausalLM f32 = rounded_model(name, pool);
    const Batch batch = make_batch({20}, f32.vocab_size());
    const auto exact = flat(Naive(f32, [](double x) { return x; }).logits(batch.input_ids));
    const auto naive = flat(Naive(f32, rounded).logits(batch.input_ids));
    const auto in_f32 = values_of(f32.logits(batch));
    CausalLM low =
        CausalLM::load(request_for(name, TrainMode::kNothing, ComputeDType::kBF16), pool);
    const auto got = values_of(low.logits(batch));
    double naive_sum = 0, got_sum = 0, naive_max = 0, got_max = 0, f32_max = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double a = std::abs(naive[i] - exact[i]);
      const double b = std::abs(static_cast<double>(got[i]) - exact[i]);
      f32_max = std::max(f32_max, std::abs(static_cast<double>(in_f32[i]) - exact[i]));
      naive_sum += a * a;
      got_sum += b * b;
      naive_max = std::max(naive_max, a);
      got_max = std::max(got_max, b);
    }
    EXPECT_LT(f32_max, 1e-3 * naive_max) << "the reference itself is off";
    EXPECT_GT(got_sum, 0) << "nothing was rounded: this is no bf16 model";
    EXPECT_LE(got_sum, 4 * naive_sum);
    EXPECT_LE(got_max, 2 * naive_max);
  }
}

// Relative L2 of each gradient against the f32 model's on the same weights.
std::vector<double> gradient_errors(CausalLM& low, CausalLM& f32, const Batch& batch) {
  zero_gradients(f32);
  zero_gradients(low);
  const auto want_loss = f32.forward_backward(batch, 0.1f, 0.0f);
  const auto loss = low.forward_backward(batch, 0.1f, 0.0f);
  EXPECT_NEAR(loss.sum, want_loss.sum, 0.02 * want_loss.sum);
  std::vector<double> errors;
  const auto got = low.parameters(), want = f32.parameters();
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i]->name, want[i]->name);
    EXPECT_EQ(got[i]->value.dtype(), DType::kBF16);
    const auto a = values_of(got[i]->grad), b = values_of(want[i]->grad);
    double difference = 0, norm = 0;
    for (std::size_t j = 0; j < a.size(); ++j) {
      const double d = static_cast<double>(a[j]) - static_cast<double>(b[j]);
      difference += d * d;
      norm += static_cast<double>(b[j]) * static_cast<double>(b[j]);
    }
    errors.push_back(std::sqrt(difference / norm));
  }
  return errors;
}

// A token near a tie may go to another expert, which moves gradients by more than rounding does; so
// each tensor's best of some batches counts. A wrong gradient is wrong in all of them.
TEST(bf16, gradients_follow_those_of_f32) {
  ThreadPool pool(2);
  for (const std::string& name : golden_names()) {
    SCOPED_TRACE(name);
    CausalLM f32 = rounded_model(name, pool);
    CausalLM low =
        CausalLM::load(request_for(name, TrainMode::kAllWeights, ComputeDType::kBF16), pool);
    std::vector<double> best;
    for (const std::uint64_t stream : {1, 2, 3, 4}) {
      const auto errors = gradient_errors(low, f32, make_batch({12, 9}, f32.vocab_size(), stream));
      if (best.empty()) best = errors;
      for (std::size_t i = 0; i < best.size(); ++i) best[i] = std::min(best[i], errors[i]);
    }
    for (std::size_t i = 0; i < best.size(); ++i) {
      EXPECT_LT(best[i], 0.25) << low.parameters()[i]->name;
    }
  }
}

TEST(bf16, values_follow_masters) {
  ThreadPool pool(2);
  CausalLM model =
      CausalLM::load(request_for("qwen3_moe", TrainMode::kAllWeights, ComputeDType::kBF16), pool);
  const Batch batch = make_batch({9}, model.vocab_size());
  const double before = model.evaluate(batch).sum;
  for (Parameter* p : model.parameters()) {
    for (std::int64_t i = 0; i < p->master.numel(); ++i) p->master.data<float>()[i] *= 1.5f;
  }
  EXPECT_EQ(model.evaluate(batch).sum, before);
  model.sync_values();
  EXPECT_NE(model.evaluate(batch).sum, before);
  for (const Parameter* p : model.parameters()) {
    EXPECT_EQ(values_of(p->value)[0], static_cast<float>(bf16(values_of(p->master)[0])));
  }
}

}  // namespace
}  // namespace moesmith::model
