// SPDX-License-Identifier: Apache-2.0
// The memory plan against what is really held.
#include <gtest/gtest.h>

#include "fixture.h"

namespace moesmith::model {
namespace {

TEST(memory, estimate_counts_what_loading_allocates) {
  ThreadPool pool(2);
  for (const std::string& name : golden_names()) {
    for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBF16}) {
      for (const bool adapter : {false, true}) {
        SCOPED_TRACE(name);
        const LoadRequest request = adapter ? adapter_request(name, dtype)
                                            : request_for(name, TrainMode::kAllWeights, dtype);
        const MemoryEstimate m = estimate_memory(request, 33, 2);
        CausalLM model = CausalLM::load(request, pool);
        std::int64_t values = 0, masters = 0, gradients = 0, adapters = 0, trained = 0;
        for (const Parameter* p : model.parameters()) {
          const bool factor = p->name.starts_with("base_model.");
          (factor ? adapters : values) +=
              numel(p->shape) * (factor ? 4 : dtype_size(model.compute_dtype()));
          if (!p->trainable) continue;
          trained += p->master.numel();
          gradients += p->grad.bytes();
          if (p->master.raw() != p->value.raw()) masters += p->master.bytes();
        }
        EXPECT_EQ(m.weights + m.weights_mapped, values);
        EXPECT_EQ(m.weights_mapped > 0, adapter && dtype == ComputeDType::kF32);
        EXPECT_EQ(m.adapter, adapters);
        EXPECT_EQ(m.masters, masters);
        EXPECT_EQ(m.gradients, gradients);
        EXPECT_EQ(m.optimiser, 8 * trained);
      }
    }
  }
}

// The arena aborts when a step needs more than was counted: running is the test.
TEST(memory, a_step_stays_within_what_was_counted) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (const std::string& name : golden_names()) {
      for (const bool checkpointing : {false, true}) {
        LoadRequest request = adapter_request(name);
        request.model.gradient_checkpointing = checkpointing;
        const auto planned = estimate_memory(request, 60, threads).activations;
        CausalLM model = CausalLM::load(request, pool);
        const Batch batch = make_batch({40, 20}, model.vocab_size());
        model.forward_backward(batch, 1.0f, 1.0f);
        model.evaluate(batch);
        model.logits(batch);
        EXPECT_GT(planned, 0);
      }
    }
  }
}

TEST(memory, checkpointing_and_fewer_tokens_need_less) {
  LoadRequest request = adapter_request("qwen3_moe_nonsquare");
  const auto all = estimate_memory(request, 512, 2).activations;
  EXPECT_LT(estimate_memory(request, 256, 2).activations, all);
  request.mode = TrainMode::kNothing;
  EXPECT_LT(estimate_memory(request, 512, 2).activations, all);
  request.mode = TrainMode::kAdapter;
  request.model.gradient_checkpointing = true;
  EXPECT_LT(estimate_memory(request, 512, 2).activations, all);
}

// Attention and loss hold blocks, not squares: twice the tokens need about twice the bytes.
TEST(memory, grows_linearly_with_tokens) {
  const LoadRequest request = adapter_request("qwen3_moe");
  const auto one = static_cast<double>(estimate_memory(request, 4096, 2).activations);
  const auto four = static_cast<double>(estimate_memory(request, 16384, 2).activations);
  EXPECT_LT(four, 4.2 * one);
}

}  // namespace
}  // namespace moesmith::model
