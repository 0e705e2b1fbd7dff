// SPDX-License-Identifier: Apache-2.0
// moesmith explain: what a configuration comes to, before any weight is read: every key's value,
// the trained tensors, the memory, the experts' implementation and why each other one is not taken.
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/tables.h"
#include "cli/terminal.h"
#include "core/checked.h"
#include "core/text.h"
#include "io/checkpoint.h"
#include "model/decoder.h"
#include "moesmith/experts.h"
#include "train/memory.h"

namespace moesmith::cli {
namespace {

void print_table(const std::vector<std::string>& lines) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    print_line(i == 0 ? bold(lines[i]) : lines[i]);
  }
}

model::LoadRequest training_request(const config::Config& config) {
  model::LoadRequest request;
  request.folder = io::resolve_model(config.train.base_model, config.train.revision_of_model);
  request.model = config.model;
  request.lora = config.lora;
  request.mode = config.lora.enabled ? model::TrainMode::kAdapter : model::TrainMode::kAllWeights;
  request.reinit = config.train.reinit_weights;
  request.seed = static_cast<std::uint64_t>(config.train.seed);
  return request;
}

void print_model(const model::Decoder& decoder, const std::string& folder) {
  const model::DecoderSpec& spec = decoder.spec;
  print_line("");
  print_table({"model", str("  ", spec.model_type, " in ", folder),
               str("  ", spec.num_layers(), " layers, ", decoder.num_sparse_layers(),
                   " of them with ", spec.num_experts, " experts (", spec.top_k,
                   " per token, inner size ", spec.expert_intermediate, "), hidden size ",
                   spec.hidden_size, ", vocabulary ", count_text(spec.vocab_size)),
               str("  computes in ", dtype_name(decoder.compute))});
}

std::vector<train::TrainedTensor> trained_tensors(const model::Decoder& decoder) {
  std::vector<train::TrainedTensor> tensors;
  for (const model::Weight& weight : decoder.weights) {
    if (weight.parameter.trainable) {
      tensors.push_back({weight.spec.name, weight.spec.shape, numel(weight.spec.shape)});
    }
  }
  for (const model::Lora& lora : decoder.loras) {
    const Shape a = lora.slot.shape_a(), b = lora.slot.shape_b();
    tensors.push_back({lora.slot.key_a, a, numel(a)});
    tensors.push_back({lora.slot.key_b, b, numel(b)});
  }
  return tensors;
}

// The first sparse layer's; the others have the same sizes, and where adapters differ it is their
// rank.
const model::MoeLayer* first_experts(const model::Decoder& decoder) {
  for (const model::DecoderLayer& layer : decoder.layers) {
    if (layer.moe) {
      return &*layer.moe;
    }
  }
  return nullptr;
}

// Throws the planner's Error when what was asked for cannot run.
void print_experts(const model::Decoder& decoder, const std::string& implementation, bool packed) {
  const model::MoeLayer* layer = first_experts(decoder);
  print_line("");
  if (layer == nullptr) {
    print_line("experts: no layer has any");
    return;
  }
  experts::ExpertsRequest request = layer->train_plan->request();
  request.implementation = implementation;
  request.packed_weights = packed;
  std::vector<std::vector<std::string>> rows = {{"experts", "", ""}};
  for (const experts::Verdict& verdict : experts::explain_experts(request)) {
    rows.push_back({verdict.name, verdict.accepted ? "can run" : "refuses", verdict.text});
  }
  print_table(aligned(rows, {false, false, false}));
  print_line(str("  experts_implementation: ", implementation, " runs ",
                 experts::plan_experts(request).to_string()));
  request.max_tokens = 1;
  request.wanted = {};
  print_line(
      str("  decoding, one token a call, runs ", experts::plan_experts(request).to_string()));
}

int run(const Arguments& arguments) {
  const config::Config config = read_config(arguments, config::Purpose::kTrain);
  const model::LoadRequest request = training_request(config);
  // `eager` takes every request, so the model can be described even where the wanted one refuses.
  model::LoadRequest described = request;
  described.model.experts_implementation = "eager";
  const auto decoder = model::describe_decoder(described, true);
  print_text(config::resolved_yaml(config));
  print_model(*decoder, request.folder);
  print_line("");
  print_table(trained_table(trained_tensors(*decoder)));
  const int num_threads = ThreadPool(static_cast<int>(config.runtime.threads)).num_threads();
  const std::int64_t tokens = checked_mul(config.train.micro_batch_size, config.train.sequence_len);
  const train::MemoryPlan memory = train::plan_memory(
      model::estimate_memory(request, tokens, num_threads), request.model.pack_experts);
  print_experts(*decoder, config.model.experts_implementation, memory.pack_experts);
  print_line("");
  print_table(memory_table(memory));
  print_line(
      str("  for a micro-batch of ", count_text(tokens), " tokens on ", num_threads, " threads"));
  return kDone;
}

}  // namespace

Command explain_command() {
  return {"explain",
          "Prints what a configuration comes to: keys, tensors, experts plan, memory.",
          "Reads the headers of the checkpoint, no weights and no data. Fails as train would when "
          "what the\n"
          "configuration names cannot run, after the reason of every implementation.",
          true,
          true,
          {},
          run};
}

}  // namespace moesmith::cli
