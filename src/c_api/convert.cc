// SPDX-License-Identifier: Apache-2.0
#include "c_api/convert.h"

#include <span>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::c_api {
namespace {

using experts::ExpertsRequest;

[[noreturn]] void refuse(const char* what, std::int64_t got, const char* expected) {
  throw Error(ErrorCode::kInvalidInput,
              str("moesmith: ", what, ": got ", got, ", expected ", expected));
}

DType to_dtype(const char* what, std::int32_t value) {
  switch (value) {
    case MOESMITH_F32:
      return DType::kF32;
    case MOESMITH_BF16:
      return DType::kBF16;
    case MOESMITH_F64:
      return DType::kF64;
    case MOESMITH_I64:
      return DType::kI64;
    case MOESMITH_I32:
      return DType::kI32;
  }
  refuse(what, value, "one of the MOESMITH_ dtypes");
}

bool to_bool(const char* what, std::int32_t value) {
  if (value != 0 && value != 1) refuse(what, value, "0 or 1");
  return value == 1;
}

experts::ActivationKind to_kind(std::int32_t value) {
  switch (value) {
    case MOESMITH_SILU:
      return experts::ActivationKind::kSilu;
    case MOESMITH_GELU:
      return experts::ActivationKind::kGelu;
    case MOESMITH_GELU_TANH:
      return experts::ActivationKind::kGeluTanh;
    case MOESMITH_RELU:
      return experts::ActivationKind::kRelu;
    case MOESMITH_RELU2:
      return experts::ActivationKind::kRelu2;
  }
  refuse("activation.kind", value, "MOESMITH_SILU to MOESMITH_RELU2");
}

experts::ActivationSpec to_activation(const moesmith_activation& a) {
  experts::ActivationSpec result;
  result.kind = to_kind(a.kind);
  result.gated = to_bool("activation.gated", a.gated);
  result.alpha = a.alpha;
  result.up_shift = a.up_shift;
  if (to_bool("activation.has_gate_max", a.has_gate_max)) result.gate_max = a.gate_max;
  if (to_bool("activation.has_up_limit", a.has_up_limit)) result.up_limit = a.up_limit;
  return result;
}

experts::GateUpLayout to_layout(std::int32_t value) {
  switch (value) {
    case MOESMITH_CONCATENATED:
      return experts::GateUpLayout::kConcatenated;
    case MOESMITH_INTERLEAVED:
      return experts::GateUpLayout::kInterleaved;
    case MOESMITH_SEPARATE:
      return experts::GateUpLayout::kSeparate;
  }
  refuse("gate_up_layout", value, "MOESMITH_CONCATENATED, _INTERLEAVED or _SEPARATE");
}

experts::LoraSpec to_lora(const char* what, const moesmith_lora& lora) {
  return {.lora_rank = lora.lora_rank,
          .lora_scale = lora.lora_scale,
          .dtype = to_dtype(what, lora.dtype)};
}

experts::GradSpec to_gradient(const char* what, const moesmith_gradient& gradient) {
  experts::GradSpec result{.mode = experts::GradMode::kNone,
                           .dtype = to_dtype(what, gradient.dtype)};
  switch (gradient.mode) {
    case MOESMITH_NO_GRAD:
      return result;
    case MOESMITH_OVERWRITE:
      result.mode = experts::GradMode::kOverwrite;
      return result;
    case MOESMITH_ACCUMULATE:
      result.mode = experts::GradMode::kAccumulate;
      return result;
  }
  refuse(what, gradient.mode, "MOESMITH_NO_GRAD, MOESMITH_OVERWRITE or MOESMITH_ACCUMULATE");
}

experts::WantedGradients to_wanted(const moesmith_request& r) {
  return {.hidden = to_gradient("d_hidden", r.d_hidden),
          .top_k_weights = to_gradient("d_top_k_weights", r.d_top_k_weights),
          .gate_up = to_gradient("d_gate_up", r.d_gate_up),
          .down = to_gradient("d_down", r.d_down),
          .gate_up_bias = to_gradient("d_gate_up_bias", r.d_gate_up_bias),
          .down_bias = to_gradient("d_down_bias", r.d_down_bias),
          .gate_up_a = to_gradient("d_gate_up_a", r.d_gate_up_a),
          .gate_up_b = to_gradient("d_gate_up_b", r.d_gate_up_b),
          .down_a = to_gradient("d_down_a", r.d_down_a),
          .down_b = to_gradient("d_down_b", r.d_down_b)};
}

// E pointers: those given, or the experts of one tensor. A missing tensor stays missing, so that
// the plan's own check names it.
experts::ProjectionWeights to_projection(const moesmith_projection& projection,
                                         const ExpertsRequest& request,
                                         std::vector<const void*>& base) {
  const auto count = static_cast<std::size_t>(request.num_experts);
  if (projection.base != nullptr) {
    base.assign(projection.base, projection.base + count);
  } else {
    base.resize(count);
    const std::int64_t stride = projection.expert_stride * dtype_size(request.weight_dtype);
    const auto* data = static_cast<const std::byte*>(projection.data);
    for (std::size_t e = 0; e < count; ++e) {
      base[e] = data == nullptr ? nullptr : data + static_cast<std::int64_t>(e) * stride;
    }
  }
  return {.base = base, .row_stride = projection.row_stride};
}

experts::ExpertsWeights to_weights(const moesmith_projection& gate_up,
                                   const moesmith_projection& up,
                                   const moesmith_projection& down,
                                   const ExpertsRequest& request,
                                   BasePointers& bases) {
  experts::ExpertsWeights weights;
  weights.gate_up = to_projection(gate_up, request, bases[0]);
  if (request.gate_up_layout == experts::GateUpLayout::kSeparate) {
    weights.up = to_projection(up, request, bases[1]);
  }
  weights.down = to_projection(down, request, bases[2]);
  return weights;
}

experts::ExpertsInputs to_inputs(const moesmith_inputs& in,
                                 const ExpertsRequest& request,
                                 BasePointers& bases) {
  experts::ExpertsInputs result{.num_tokens = in.num_tokens,
                                .hidden = in.hidden,
                                .top_k_index = in.top_k_index,
                                .top_k_weights = in.top_k_weights,
                                .weights = to_weights(in.gate_up, in.up, in.down, request, bases),
                                .packed_weights = static_cast<const std::byte*>(in.packed),
                                .gate_up_lora = {.a = in.gate_up_a, .b = in.gate_up_b},
                                .down_lora = {.a = in.down_a, .b = in.down_b}};
  result.weights.gate_up_bias = in.gate_up_bias;
  result.weights.down_bias = in.down_bias;
  return result;
}

template <class Byte, class Void>
std::span<Byte> to_buffer(const char* what, Void* data, std::int64_t bytes) {
  if (bytes < 0) refuse(what, bytes, "0 or more");
  return {static_cast<Byte*>(data), data == nullptr ? 0 : static_cast<std::size_t>(bytes)};
}

}  // namespace

void check_struct(const char* name, std::uint32_t given, std::size_t expected) {
  if (given != expected) {
    throw Error(ErrorCode::kInvalidInput,
                str("moesmith: ", name, ".struct_bytes: got ", given, ", expected ", expected,
                    ": the caller was made for another version of the library (ABI ",
                    MOESMITH_ABI_VERSION, " here)"));
  }
}

ExpertsRequest to_request(const moesmith_request& r) {
  check_struct("moesmith_request", r.struct_bytes, sizeof r);
  if (r.device != MOESMITH_CPU && r.device != MOESMITH_CUDA) {
    refuse("device", r.device, "MOESMITH_CPU or MOESMITH_CUDA");
  }
  ExpertsRequest result;
  if (r.implementation != nullptr) result.implementation = r.implementation;
  result.device = r.device == MOESMITH_CUDA ? experts::Device::kCuda : experts::Device::kCpu;
  result.cuda_device = r.cuda_device;
  result.num_experts = r.num_experts;
  result.top_k = r.top_k;
  result.hidden = r.hidden;
  result.inter = r.inter;
  result.max_tokens = r.max_tokens;
  result.max_rows = r.max_rows;
  result.expert_parallel = to_bool("expert_parallel", r.expert_parallel);
  result.compute_dtype = to_dtype("compute_dtype", r.compute_dtype);
  result.weight_dtype = to_dtype("weight_dtype", r.weight_dtype);
  result.index_dtype = to_dtype("index_dtype", r.index_dtype);
  result.route_weights_dtype = to_dtype("route_weights_dtype", r.route_weights_dtype);
  result.d_output_dtype = to_dtype("d_output_dtype", r.d_output_dtype);
  result.activation = to_activation(r.activation);
  result.gate_up_layout = to_layout(r.gate_up_layout);
  result.transposed = to_bool("transposed", r.transposed);
  result.gate_up_bias = to_bool("gate_up_bias", r.gate_up_bias);
  result.down_bias = to_bool("down_bias", r.down_bias);
  result.aligned_weights = to_bool("aligned_weights", r.aligned_weights);
  result.gate_up_lora = to_lora("gate_up_lora.dtype", r.gate_up_lora);
  result.down_lora = to_lora("down_lora.dtype", r.down_lora);
  result.wanted = to_wanted(r);
  result.recompute_h = to_bool("recompute_h", r.recompute_h);
  result.double_sums = to_bool("double_sums", r.double_sums);
  result.packed_weights = to_bool("packed_weights", r.packed_weights);
  return result;
}

PackCall::PackCall(const ExpertsRequest& request, const moesmith_pack_args& a) {
  check_struct("moesmith_pack_args", a.struct_bytes, sizeof a);
  weights = to_weights(a.gate_up, a.up, a.down, request, bases);
  packed = to_buffer<std::byte>("packed_bytes", a.packed, a.packed_bytes);
}

ForwardCall::ForwardCall(const ExpertsRequest& request, const moesmith_forward_args& a) {
  check_struct("moesmith_forward_args", a.struct_bytes, sizeof a);
  args = {.inputs = to_inputs(a.inputs, request, bases),
          .output = a.output,
          .saved = to_buffer<std::byte>("saved_bytes", a.saved, a.saved_bytes),
          .scratch = to_buffer<std::byte>("scratch_bytes", a.scratch, a.scratch_bytes)};
}

BackwardCall::BackwardCall(const ExpertsRequest& request, const moesmith_backward_args& a) {
  check_struct("moesmith_backward_args", a.struct_bytes, sizeof a);
  args = {.inputs = to_inputs(a.inputs, request, bases),
          .d_output = a.d_output,
          .saved = to_buffer<const std::byte>("saved_bytes", a.saved, a.saved_bytes),
          .scratch = to_buffer<std::byte>("scratch_bytes", a.scratch, a.scratch_bytes),
          .gradients = {.hidden = a.d_hidden,
                        .top_k_weights = a.d_top_k_weights,
                        .gate_up = a.d_gate_up,
                        .down = a.d_down,
                        .gate_up_bias = a.d_gate_up_bias,
                        .down_bias = a.d_down_bias,
                        .gate_up_a = a.d_gate_up_a,
                        .gate_up_b = a.d_gate_up_b,
                        .down_a = a.d_down_a,
                        .down_b = a.d_down_b}};
}

}  // namespace moesmith::c_api
