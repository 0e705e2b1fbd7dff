// SPDX-License-Identifier: Apache-2.0
// Logits of a model, with or without an adapter, as a safetensors file: what another program's are
// compared with.
//
//   dump_logits MODEL_FOLDER ADAPTER_FOLDER|- OUTPUT.safetensors f32|bf16 TOKEN_ID...
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "model/causal_lm.h"
#include "moesmith/error.h"
#include "moesmith/io.h"

namespace {

using namespace moesmith;

int run(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr,
                 "usage: dump_logits MODEL_FOLDER ADAPTER_FOLDER|- OUTPUT.safetensors f32|bf16 "
                 "TOKEN_ID...\n");
    return 2;
  }
  ThreadPool pool;
  model::LoadRequest request;
  request.folder = argv[1];
  request.model.compute_dtype =
      std::string(argv[4]) == "bf16" ? model::ComputeDType::kBF16 : model::ComputeDType::kF32;
  if (std::string(argv[2]) != "-") {
    request.lora.enabled = true;
    request.lora.lora_model_dir = argv[2];
  }
  auto model = model::CausalLM::load(request, pool);
  model::Batch batch;
  for (int i = 5; i < argc; ++i) {
    batch.input_ids.push_back(std::atoi(argv[i]));
    batch.position_ids.push_back(i - 5);
  }
  batch.segment_offsets = {0, static_cast<std::int64_t>(batch.input_ids.size())};
  write_safetensors(argv[3], TensorFile{{{"logits", model.logits(batch)}}, {}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dump_logits: error: %s\n", error.what());
    return 1;
  }
}
