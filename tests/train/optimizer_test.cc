// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "moesmith/error.h"
#include "temp_folder.h"
#include "train/optimizer_state.h"

namespace moesmith::train {
namespace {

model::Parameter parameter(const std::string& name,
                           const std::vector<float>& values,
                           const std::vector<float>& grad) {
  model::Parameter p;
  p.name = name;
  p.shape = {static_cast<std::int64_t>(values.size())};
  p.value = Tensor::empty(p.shape, DType::kF32);
  std::copy(values.begin(), values.end(), p.value.data<float>());
  p.master = p.value;
  p.grad = Tensor::empty(p.shape, DType::kF32);
  std::copy(grad.begin(), grad.end(), p.grad.data<float>());
  p.trainable = true;
  return p;
}

struct Fixture {
  model::Parameter weight = parameter("model.layers.0.mlp.down_proj.weight", {1, 2}, {3, 0});
  model::Parameter norm = parameter("model.norm.weight", {1}, {4});
  model::Parameter frozen;
  ThreadPool pool{1};
  std::vector<model::Parameter*> all() { return {&weight, &frozen, &norm}; }
};

TEST(optimizer, norm_runs_over_all_trained_tensors) {
  Fixture f;
  Optimizer optimizer(f.all(), {}, f.pool);
  EXPECT_EQ(optimizer.slots().size(), 2u);
  EXPECT_DOUBLE_EQ(optimizer.grad_norm(), 5.0);
  optimizer.zero_grads();
  EXPECT_DOUBLE_EQ(optimizer.grad_norm(), 0.0);
}

TEST(optimizer, clips_to_max_grad_norm) {
  for (const double limit : {0.0, 1.0, 10.0}) {
    Fixture f;
    TrainOptions options;
    options.max_grad_norm = limit;
    Optimizer optimizer(f.all(), options, f.pool);
    optimizer.step(0.0, 0, optimizer.grad_norm());
    // exp_avg = 0.1 * clipped gradient after the first step.
    const double clip = limit == 1.0 ? 1.0 / (5.0 + 1e-6) : 1.0;
    EXPECT_NEAR(optimizer.slots()[0].exp_avg.data<float>()[0], 0.1 * 3.0 * clip, 1e-7) << limit;
    EXPECT_NEAR(optimizer.slots()[1].exp_avg.data<float>()[0], 0.1 * 4.0 * clip, 1e-7) << limit;
  }
}

TEST(optimizer, decays_weights_but_no_norms_and_biases) {
  EXPECT_TRUE(weight_decay_applies("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_TRUE(weight_decay_applies("model.layers.0.mlp.experts.gate_up_proj"));
  EXPECT_FALSE(weight_decay_applies("model.layers.0.self_attn.q_proj.bias"));
  EXPECT_FALSE(weight_decay_applies("model.layers.0.input_layernorm.weight"));
  EXPECT_FALSE(weight_decay_applies("model.layers.0.self_attn.q_norm.weight"));
  Fixture f;
  TrainOptions options;
  options.weight_decay = 0.5;
  Optimizer optimizer(f.all(), options, f.pool);
  optimizer.zero_grads();
  optimizer.step(0.1, 0, 0.0);
  EXPECT_FLOAT_EQ(f.weight.master.data<float>()[1], 2.0f * 0.95f);
  EXPECT_FLOAT_EQ(f.norm.master.data<float>()[0], 1.0f);
}

TEST(optimizer_state, comes_back_bit_for_bit) {
  TempFolder folder;
  Fixture f, g;
  Optimizer a(f.all(), {}, f.pool), b(g.all(), {}, g.pool);
  a.step(0.1, 0, a.grad_norm());
  write_optimizer(folder.path(), a);
  read_optimizer(folder.path(), b);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(a.slots()[i].exp_avg.data<float>()[0], b.slots()[i].exp_avg.data<float>()[0]);
    EXPECT_EQ(a.slots()[i].exp_avg_sq.data<float>()[0], b.slots()[i].exp_avg_sq.data<float>()[0]);
  }
  EXPECT_EQ(f.weight.master.data<float>()[0], g.weight.master.data<float>()[0]);
}

TEST(optimizer_state, refuses_tensors_of_another_model) {
  TempFolder folder;
  Fixture f, g;
  Optimizer a(f.all(), {}, f.pool);
  write_optimizer(folder.path(), a);
  Optimizer fewer({&g.norm}, {}, g.pool);
  EXPECT_THROW(read_optimizer(folder.path(), fewer), Error);
  g.norm.name = "model.other_norm.weight";
  Optimizer renamed({&g.weight, &g.norm}, {}, g.pool);
  EXPECT_THROW(read_optimizer(folder.path(), renamed), Error);
  Fixture h;
  h.norm = parameter("model.norm.weight", {1, 1}, {0, 0});
  Optimizer reshaped(h.all(), {}, h.pool);
  EXPECT_THROW(read_optimizer(folder.path(), reshaped), Error);
}

}  // namespace
}  // namespace moesmith::train
