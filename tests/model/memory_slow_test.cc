// SPDX-License-Identifier: Apache-2.0
// The memory plan against the memory that the system says a process holds. It runs in a process
// of its own: memory that an earlier one gave back would be used again unseen.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "fixture.h"
#include "io/system_memory.h"

namespace moesmith::model {
namespace {

constexpr std::int64_t kTokens = 2048;

// The quickstart's kind of model, larger: weights, adapters and activations of 40 MiB and more.
LoadRequest drawn_model(const std::string& folder, PackExperts pack) {
  std::ofstream(folder + "/config.json")
      << R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 512,
 "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
 "num_key_value_heads": 2, "head_dim": 64, "moe_intermediate_size": 256, "num_experts": 64,
 "num_experts_per_tok": 4, "norm_topk_prob": true, "decoder_sparse_step": 1,
 "max_position_embeddings": 4096, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06,
 "hidden_act": "silu", "tie_word_embeddings": false, "initializer_range": 0.02,
 "dtype": "bfloat16"})";
  LoadRequest request;
  request.folder = folder;
  request.model.experts_implementation = "scattermoe";
  request.model.pack_experts = pack;
  request.lora.enabled = true;
  request.lora.lora_r = 16;
  request.lora.lora_target_modules = {"q_proj", "k_proj", "v_proj", "o_proj"};
  request.lora.lora_target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  request.mode = TrainMode::kAdapter;
  request.reinit = true;
  return request;
}

// Share of the plan that a step really takes; the optimiser is not part of it.
double measured_share(PackExperts pack) {
  const TempDir folder;
  const LoadRequest request = drawn_model(folder.path(), pack);
  ThreadPool pool(2);
  const MemoryEstimate m = estimate_memory(request, kTokens, pool.num_threads());
  const std::int64_t before = io::current_rss();
  CausalLM model = CausalLM::load(request, pool);
  model.forward_backward(make_batch({kTokens}, model.vocab_size()), 1.0f, 0.0f);
  const std::int64_t planned =
      m.weights + m.packed + m.adapter + m.masters + m.gradients + m.activations + m.packed_experts;
  const std::int64_t taken = io::peak_rss() - before;
  std::fprintf(stderr, "planned %lld bytes, took %lld\n", static_cast<long long>(planned),
               static_cast<long long>(taken));
  return static_cast<double>(taken) / static_cast<double>(planned);
}

TEST(memory_slow, the_plan_is_within_a_tenth_of_what_a_step_takes) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const PackExperts pack : {PackExperts::kNever, PackExperts::kAlways}) {
    EXPECT_EXIT(
        {
          const double share = measured_share(pack);
          std::_Exit(share > 0.9 && share < 1.1 ? 0 : 1);
        },
        testing::ExitedWithCode(0), "planned")
        << (pack == PackExperts::kAlways ? "packed" : "as they lie");
  }
}

}  // namespace
}  // namespace moesmith::model
