// SPDX-License-Identifier: Apache-2.0
#include "model/golden/golden.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "core/text.h"
#include "io/safetensors.h"
#include "kernels/adamw/adamw.h"
#include "model/decoder.h"
#include "model/golden/experts_part.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

constexpr double kBound = 1e-4;         // of logits, losses and gradients
constexpr double kTrainedBound = 1e-3;  // of tensors after the steps, relative L2
constexpr double kTinyGradient = 1e-6;  // of the tensor's largest: Adam divides noise by noise
constexpr int kSteps = 5;

// input_ids and labels [samples, length], packed; labels shifted to the token they are predicted
// at.
Batch read_batch(const std::string& folder) {
  const auto file = io::SafetensorsFile::open(folder + "/inputs.safetensors");
  const Tensor ids = file.tensor("input_ids"), labels = file.tensor("labels");
  if (ids.rank() != 2 || ids.shape() != labels.shape()) {
    throw Error(ErrorCode::kInvalidInput,
                str(file.path(), ": labels: got shape ", to_string(labels.shape()),
                    ", expected that of input_ids, [samples, length]"));
  }
  Batch batch;
  batch.segment_offsets.push_back(0);
  for (std::int64_t s = 0; s < ids.dim(0); ++s) {
    for (std::int64_t t = 0; t < ids.dim(1); ++t) {
      const std::int64_t at = s * ids.dim(1) + t;
      batch.input_ids.push_back(static_cast<std::int32_t>(ids.data<std::int64_t>()[at]));
      batch.position_ids.push_back(static_cast<std::int32_t>(t));
      batch.labels.push_back(t + 1 == ids.dim(1)
                                 ? kIgnoreLabel
                                 : static_cast<std::int32_t>(labels.data<std::int64_t>()[at + 1]));
    }
    batch.segment_offsets.push_back(static_cast<std::int64_t>(batch.input_ids.size()));
  }
  return batch;
}

class Checker {
 public:
  Checker(std::string folder, std::string implementation, ThreadPool& pool)
      : folder_(std::move(folder)),
        implementation_(std::move(implementation)),
        pool_(pool),
        batch_(read_batch(folder_)) {
    for (const std::int32_t label : batch_.labels) num_labels_ += label != kIgnoreLabel;
  }

  std::vector<GoldenPart> run() {
    if (std::filesystem::exists(folder_ + "/experts.safetensors")) experts();
    full();
    // In the order of the maker: both sides, then one at a time; any further ones by name.
    std::vector<std::string> adapters;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && name.starts_with("adapter")) adapters.push_back(name);
    }
    std::sort(adapters.begin(), adapters.end());
    for (const std::string& name : adapters) adapter(name);
    return std::move(parts_);
  }

 private:
  LoadRequest request() const {
    LoadRequest r;
    r.folder = folder_ + "/model";
    r.model.compute_dtype = ComputeDType::kF32;
    r.model.experts_implementation = implementation_;
    return r;
  }

  GoldenPart& part(const std::string& name, double bound = kBound) {
    parts_.push_back({name, "", 0, bound});
    return parts_.back();
  }
  static void note(GoldenPart& part, const std::string& tensor, double error) {
    ++part.num_tensors;
    // A NaN is the worst there is, and stays.
    if (part.tensor.empty() || (!std::isnan(part.error) && !(error <= part.error))) {
      part.tensor = tensor;
      part.error = error;
    }
  }

  void logits_and_loss(CausalLM& model,
                       const io::SafetensorsFile& expected,
                       const std::string& prefix) {
    note(part(prefix + "logits"), "logits",
         relative_max_error(model.logits(batch_), expected.tensor("logits")));
    const double loss = backward(model);
    const double want = static_cast<double>(expected.tensor("loss").data<float>()[0]);
    note(part(prefix + "loss"), "loss", std::abs(loss - want) / std::abs(want));
  }

  // The gradient of the loss that transformers computes, into zeroed grads; that loss.
  double backward(CausalLM& model) {
    for (Parameter* p : model.parameters()) {
      if (p->trainable) std::fill_n(p->grad.data<float>(), p->grad.numel(), 0.0f);
    }
    const auto count = static_cast<double>(num_labels_);
    const double coef = model.aux_loss_coef();
    const CausalLM::Loss loss =
        model.forward_backward(batch_, static_cast<float>(1.0 / count), static_cast<float>(coef));
    return loss.sum / count + coef * loss.aux;
  }

  // Each trained parameter has its golden tensor and the other way round.
  void gradients(CausalLM& model, const io::SafetensorsFile& expected, const std::string& prefix) {
    GoldenPart& result = part(prefix + "gradients");
    std::int64_t want = 0;
    for (const io::TensorInfo& info : expected.tensors()) want += info.name.starts_with("grad.");
    for (Parameter* p : model.parameters()) {
      if (!p->trainable) continue;
      note(result, p->name, relative_max_error(p->grad, expected.tensor("grad." + p->name)));
    }
    if (result.num_tensors != want) {
      throw Error(ErrorCode::kInvalidInput, str(expected.path(), ": got ", want,
                                                " gradients, expected ", result.num_tensors));
    }
  }

  void experts() {
    for (const ExpertsError& e : experts_errors(request(), folder_, pool_)) {
      if (parts_.empty()) part("experts layer");
      note(parts_.back(), e.tensor, e.error);
    }
  }

  void full() {
    LoadRequest r = request();
    r.mode = TrainMode::kAllWeights;
    CausalLM model = CausalLM::load(r, pool_);
    const auto expected = io::SafetensorsFile::open(folder_ + "/expected.safetensors");
    logits_and_loss(model, expected, "");
    gradients(model, expected, "");
  }

  void adapter(const std::string& name) {
    LoadRequest r = request();
    r.mode = TrainMode::kAdapter;
    r.lora.enabled = true;
    r.lora.lora_model_dir = folder_ + "/" + name;
    CausalLM model = CausalLM::load(r, pool_);
    const auto expected = io::SafetensorsFile::open(folder_ + "/" + name + "_expected.safetensors");
    logits_and_loss(model, expected, name + ": ");
    gradients(model, expected, name + ": ");
    train(model, expected, name + ": ");
  }

  void train(CausalLM& model, const io::SafetensorsFile& expected, const std::string& prefix) {
    struct State {
      Parameter* parameter;
      Tensor first, second, first_grad;
    };
    std::vector<State> states;
    for (Parameter* p : model.parameters()) {
      if (!p->trainable) continue;
      states.push_back({p, Tensor::zeros(p->shape, DType::kF32),
                        Tensor::zeros(p->shape, DType::kF32), Tensor()});
    }
    const Tensor losses = expected.tensor("train.losses");
    GoldenPart& loss_part = part(prefix + "train losses");
    for (int step = 0; step < kSteps; ++step) {
      const double loss = backward(model);
      const double want = static_cast<double>(losses.data<float>()[step]);
      note(loss_part, str("step ", step), std::abs(loss - want) / std::abs(want));
      const auto c = kernels::adamw::coefficients({.lr = 5e-3}, step + 1, 1.0);
      for (State& s : states) {
        if (step == 0) s.first_grad = s.parameter->grad.clone();
        kernels::adamw::run(
            {s.parameter->master.data<float>(), s.first.data<float>(), s.second.data<float>(),
             s.parameter->grad.data<float>(), s.parameter->master.numel()},
            c, pool_);
      }
      model.sync_values();
    }
    GoldenPart& result = part(prefix + "trained tensors", kTrainedBound);
    for (const State& s : states) {
      const Tensor want = expected.tensor("train." + s.parameter->name);
      note(result, s.parameter->name,
           relative_l2(s.parameter->master, want, s.first_grad, result.left_out));
    }
  }

  // Over the elements whose first gradient counts; the others are added to `left_out`.
  static double relative_l2(const Tensor& got,
                            const Tensor& want,
                            const Tensor& grad,
                            std::int64_t& left_out) {
    check_same_shape(got, want);
    const auto* g = grad.data<float>();
    float largest = 0;
    for (std::int64_t i = 0; i < grad.numel(); ++i) largest = std::max(largest, std::abs(g[i]));
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < got.numel(); ++i) {
      if (static_cast<double>(std::abs(g[i])) < kTinyGradient * static_cast<double>(largest)) {
        ++left_out;
        continue;
      }
      const double w = static_cast<double>(want.data<float>()[i]);
      const double d = static_cast<double>(got.data<float>()[i]) - w;
      difference += d * d;
      norm += w * w;
    }
    return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  }

  std::string folder_, implementation_;
  ThreadPool& pool_;
  Batch batch_;
  std::int64_t num_labels_ = 0;
  std::vector<GoldenPart> parts_;
};

}  // namespace

std::vector<GoldenPart> check_golden(const std::string& folder,
                                     const std::string& experts_implementation,
                                     ThreadPool& pool) {
  return Checker(folder, experts_implementation, pool).run();
}

}  // namespace moesmith::model
