// SPDX-License-Identifier: Apache-2.0
#include "model/golden/experts_part.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/text.h"
#include "io/safetensors.h"
#include "model/decoder.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

// The layer whose experts are "model.layers.<i>.mlp.experts".
MoeLayer& layer_of(Decoder& decoder, const io::SafetensorsFile& file) {
  const auto module = file.metadata().find("module");
  for (DecoderLayer& layer : decoder.layers) {
    if (layer.moe && module != file.metadata().end() &&
        layer.moe->gate_up->spec.name == module->second + ".gate_up_proj") {
      return *layer.moe;
    }
  }
  throw Error(
      ErrorCode::kInvalidInput,
      str(file.path(), ": module: got ", module == file.metadata().end() ? "none" : module->second,
          ", expected the name of an experts module of this model"));
}

std::span<std::byte> bytes_of(Tensor& t) {
  return {static_cast<std::byte*>(t.raw()), static_cast<std::size_t>(t.bytes())};
}

}  // namespace

void check_same_shape(const Tensor& got, const Tensor& want) {
  if (got.numel() != want.numel()) {
    throw Error(ErrorCode::kInvalidInput, str("golden tensor: got shape ", to_string(want.shape()),
                                              ", expected ", to_string(got.shape())));
  }
}

double relative_max_error(const Tensor& got, const Tensor& want) {
  check_same_shape(got, want);
  double largest = 0, scale = 0;
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const double w = static_cast<double>(want.data<float>()[i]);
    const double d = std::abs(static_cast<double>(got.data<float>()[i]) - w);
    if (std::isnan(d)) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, d);
    scale = std::max(scale, std::abs(w));
  }
  return scale > 0 ? largest / scale : largest;
}

std::vector<ExpertsError> experts_errors(const LoadRequest& request,
                                         const std::string& folder,
                                         ThreadPool& pool) {
  const auto decoder = describe_decoder(request, false);
  fill_decoder(*decoder, request, pool);
  const auto file = io::SafetensorsFile::open(folder + "/experts.safetensors");
  const MoeLayer& layer = layer_of(*decoder, file);
  const Tensor hidden = file.tensor("hidden_states"), index = file.tensor("top_k_index");
  const Tensor weights = file.tensor("top_k_weights"), d_output = file.tensor("grad_output");
  const std::int64_t n = hidden.dim(0);
  Tensor index32 = Tensor::empty(index.shape(), DType::kI32);
  for (std::int64_t i = 0; i < index.numel(); ++i) {
    index32.data<std::int32_t>()[i] = static_cast<std::int32_t>(index.data<std::int64_t>()[i]);
  }
  const auto sizes = layer.train_plan->sizes(n, pool.num_threads());
  Tensor saved = Tensor::empty({sizes.saved_bytes}, DType::kU8);
  Tensor scratch = Tensor::empty(
      {std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)}, DType::kU8);
  Tensor output = Tensor::empty(hidden.shape(), DType::kF32), d_hidden = output.clone();
  Tensor d_weights = Tensor::empty(weights.shape(), DType::kF32);
  experts::ExpertsInputs in;
  in.num_tokens = n;
  in.hidden = hidden.raw();
  in.top_k_index = index32.raw();
  in.top_k_weights = weights.raw();
  in.weights.gate_up = {layer.gate_base, layer.router.in};
  in.weights.up = {layer.up_base, layer.router.in};
  in.weights.down = {layer.down_base, layer.down->spec.shape[2]};
  layer.train_plan->forward({in, output.raw(), bytes_of(saved), bytes_of(scratch)}, pool);
  experts::BackwardArgs back;
  back.inputs = in;
  back.d_output = d_output.raw();
  back.saved = bytes_of(saved);
  back.scratch = bytes_of(scratch);
  back.gradients.hidden = d_hidden.raw();
  back.gradients.top_k_weights = d_weights.raw();
  layer.train_plan->backward(back, pool);
  return {{"output", relative_max_error(output, file.tensor("output"))},
          {"grad_hidden_states", relative_max_error(d_hidden, file.tensor("grad_hidden_states"))},
          {"grad_top_k_weights", relative_max_error(d_weights, file.tensor("grad_top_k_weights"))}};
}

}  // namespace moesmith::model
