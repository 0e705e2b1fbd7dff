// SPDX-License-Identifier: Apache-2.0
// moesmith merge-lora: W + scale * B A for every adapted tensor, written in the checkpoint's own
// names to {output_dir}/merged.
#include <algorithm>
#include <cmath>

#include "cli/command.h"
#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "core/text.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "model/causal_lm.h"

namespace moesmith::cli {
namespace {

// bf16 weights carry 8 bits, and a token near two experts' border may change its expert.
constexpr double kMostApart = 0.05;

// One segment of tokens spread over the vocabulary, to compare two models on.
model::Batch probe_batch(const model::CausalLM& model) {
  model::Batch batch;
  const std::int64_t count = std::min<std::int64_t>(16, model.max_position_embeddings());
  for (std::int64_t i = 0; i < count; ++i) {
    batch.input_ids.push_back(static_cast<std::int32_t>((i * 7919 + 1) % model.vocab_size()));
    batch.position_ids.push_back(static_cast<std::int32_t>(i));
    batch.labels.push_back(-100);
  }
  batch.segment_offsets = {0, count};
  return batch;
}

// max |a - b| / max |a|
double difference(const Tensor& a, const Tensor& b) {
  double largest = 0, apart = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.data<float>()[i];
    largest = std::max(largest, std::fabs(x));
    apart = std::max(apart, std::fabs(x - b.data<float>()[i]));
  }
  return largest > 0 ? apart / largest : apart;
}

void write_merged(const model::CausalLM& model,
                  const ModelFiles& files,
                  const std::string& folder) {
  const std::vector<model::DiskTensor> tensors = model.disk_tensors();
  std::vector<io::TensorSpec> specs;
  for (const model::DiskTensor& tensor : tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  io::AtomicDirectory directory(folder);
  io::copy_model_files(files.model, directory.folder());
  if (files.tokenizer != files.model) {
    io::copy_model_files(files.tokenizer, directory.folder(), false);
  }
  io::CheckpointWriter writer(directory.folder(), specs);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    writer.write(tensors[i].name, model.disk_tensor(i, true));
    set_status(str("merging ", i + 1, "/", tensors.size(), " ", tensors[i].name));
  }
  writer.finish();
  directory.commit();
  set_status("");
}

int run(const Arguments& arguments) {
  const config::Config config = read_config(arguments, config::Purpose::kModel);
  const ModelFiles files = find_model_files(config);
  if (files.adapter.empty()) {
    throw Error(
        ErrorCode::kInvalidInput,
        str(arguments.config_file, ": nothing to merge, expected adapter: lora or lora_model_dir"));
  }
  place_memory(config.runtime);
  ThreadPool pool(static_cast<int>(config.runtime.threads));
  model::CausalLM model = model::CausalLM::load(use_request(config, files), pool);
  const std::string folder = config.train.output_dir + "/merged";
  io::make_directories(config.train.output_dir);
  write_merged(model, files, folder);
  print_line(str("merged ",
                 count_text(static_cast<std::int64_t>(model.adapter_tensors().size() / 2)),
                 " adapted tensors of ", files.adapter, " into ", folder));

  ModelFiles merged;
  merged.model = folder;
  model::CausalLM read_back = model::CausalLM::load(use_request(config, merged), pool);
  const model::Batch batch = probe_batch(model);
  const double apart = difference(model.logits(batch), read_back.logits(batch));
  print_line(
      str("read back: its logits differ from base + adapter by ", apart, " of the largest one"));
  if (apart > kMostApart) {
    print_note("warning: that is more than rounding to the checkpoint's dtype explains");
  }
  return kDone;
}

}  // namespace

Command merge_lora_command() {
  return {"merge-lora",
          "Writes base plus adapter as one model to {output_dir}/merged.",
          "The tensors keep the checkpoint's names, order and dtype; sums are made in f32 and "
          "rounded once.",
          true,
          true,
          {},
          run};
}

}  // namespace moesmith::cli
