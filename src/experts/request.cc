// SPDX-License-Identifier: Apache-2.0
#include "experts/request.h"

#include <cmath>
#include <initializer_list>

#include "core/checked.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::experts {
namespace {

template <class Got, class Expected>
[[noreturn]] void refuse(const char* member, const Got& got, const Expected& expected) {
  throw Error(ErrorCode::kInvalidInput,
              str("experts request: ", member, ": got ", got, ", expected ", expected));
}

void check_at_least(const char* member, std::int64_t value, std::int64_t least) {
  if (value < least) refuse(member, value, str("at least ", least));
}

void check_dtype(const char* member, DType dtype, std::initializer_list<DType> allowed) {
  std::string names;
  for (const DType one : allowed) {
    if (one == dtype) return;
    names += (names.empty() ? "" : " or ") + std::string(dtype_name(one));
  }
  refuse(member, dtype_name(dtype), names);
}

void check_sizes(const ExpertsRequest& r) {
  check_at_least("num_experts", r.num_experts, 1);
  check_at_least("top_k", r.top_k, 1);
  check_at_least("hidden", r.hidden, 1);
  check_at_least("inter", r.inter, 1);
  check_at_least("max_tokens", r.max_tokens, 0);
  check_at_least("max_rows", r.max_rows, 0);
  check_at_least("gate_up_lora.lora_rank", r.gate_up_lora.lora_rank, 0);
  check_at_least("down_lora.lora_rank", r.down_lora.lora_rank, 0);
  // Products that later code forms without a check.
  const std::int64_t widest = checked_mul(2, r.hidden > r.inter ? r.hidden : r.inter);
  checked_mul(checked_mul(checked_mul(r.max_tokens, r.top_k), widest), 8);
  checked_mul(checked_mul(checked_mul(r.num_experts, r.hidden), checked_mul(2, r.inter)), 8);
  for (const LoraSpec* lora : {&r.gate_up_lora, &r.down_lora}) {
    const std::int64_t rank = checked_add(lora->lora_rank, 15);  // rounded up to 16 it is no more
    checked_mul(checked_mul(checked_mul(rank, r.num_experts), widest), 8);
    checked_mul(checked_mul(checked_mul(r.max_tokens, r.top_k), rank), 8);
  }
}

void check_dtypes(const ExpertsRequest& r) {
  check_dtype("compute_dtype", r.compute_dtype, {DType::kF32, DType::kBF16, DType::kF64});
  check_dtype("index_dtype", r.index_dtype, {DType::kI64, DType::kI32});
  if (r.compute_dtype == DType::kF64) {  // the check's mode: everything in double
    check_dtype("weight_dtype", r.weight_dtype, {DType::kF64});
    check_dtype("route_weights_dtype", r.route_weights_dtype, {DType::kF64});
    check_dtype("d_output_dtype", r.d_output_dtype, {DType::kF64});
    check_dtype("gate_up_lora.dtype", r.gate_up_lora.dtype, {DType::kF64});
    check_dtype("down_lora.dtype", r.down_lora.dtype, {DType::kF64});
    return;
  }
  check_dtype("weight_dtype", r.weight_dtype, {DType::kF32, DType::kBF16});
  check_dtype("route_weights_dtype", r.route_weights_dtype, {DType::kF32, DType::kBF16});
  check_dtype("d_output_dtype", r.d_output_dtype, {DType::kF32, r.compute_dtype});
  check_dtype("gate_up_lora.dtype", r.gate_up_lora.dtype, {DType::kF32, DType::kBF16});
  check_dtype("down_lora.dtype", r.down_lora.dtype, {DType::kF32, DType::kBF16});
}

void check_activation(const ActivationSpec& a) {
  if (a.kind != ActivationKind::kSilu && a.alpha != 1.0f) {
    refuse("activation.alpha", a.alpha, str("1 with ", to_string(a.kind), " (only silu has one)"));
  }
  if (!std::isfinite(a.alpha)) refuse("activation.alpha", a.alpha, "a finite number");
  if (!std::isfinite(a.up_shift)) refuse("activation.up_shift", a.up_shift, "a finite number");
  if (a.gate_max && std::isnan(*a.gate_max)) refuse("activation.gate_max", "NaN", "a number");
  if (a.up_limit && !(*a.up_limit >= 0)) {
    refuse("activation.up_limit", *a.up_limit, "a number that is not negative");
  }
  if (!a.gated && (a.up_limit || a.up_shift != 0.0f)) {
    refuse("activation", "up_limit or up_shift without a gate", "neither: there is no up");
  }
}

void check_gradient(const char* member,
                    const GradSpec& grad,
                    DType compute,
                    DType own,
                    bool exists,
                    const char* what) {
  if (!grad.wanted()) return;
  if (!exists) refuse(member, "a wanted gradient", what);
  if (compute == DType::kF64) {
    check_dtype(member, grad.dtype, {DType::kF64});
  } else {
    check_dtype(member, grad.dtype, {DType::kF32, own});
  }
}

void check_wanted(const ExpertsRequest& r) {
  const WantedGradients& w = r.wanted;
  const DType c = r.compute_dtype;
  const bool lora_1 = r.gate_up_lora.lora_rank > 0, lora_2 = r.down_lora.lora_rank > 0;
  const char* no_lora = "none, as this projection has no LoRA";
  const char* no_bias = "none, as there is no such bias";
  check_gradient("wanted.hidden", w.hidden, c, c, true, "");
  check_gradient("wanted.top_k_weights", w.top_k_weights, c, r.route_weights_dtype, true, "");
  check_gradient("wanted.gate_up", w.gate_up, c, r.weight_dtype, true, "");
  check_gradient("wanted.down", w.down, c, r.weight_dtype, true, "");
  check_gradient("wanted.gate_up_bias", w.gate_up_bias, c, r.weight_dtype, r.gate_up_bias, no_bias);
  check_gradient("wanted.down_bias", w.down_bias, c, r.weight_dtype, r.down_bias, no_bias);
  check_gradient("wanted.gate_up_a", w.gate_up_a, c, r.gate_up_lora.dtype, lora_1, no_lora);
  check_gradient("wanted.gate_up_b", w.gate_up_b, c, r.gate_up_lora.dtype, lora_1, no_lora);
  check_gradient("wanted.down_a", w.down_a, c, r.down_lora.dtype, lora_2, no_lora);
  check_gradient("wanted.down_b", w.down_b, c, r.down_lora.dtype, lora_2, no_lora);
}

}  // namespace

void check_request(const ExpertsRequest& request) {
  check_sizes(request);
  check_dtypes(request);
  check_activation(request.activation);
  check_wanted(request);
  if (request.packed_weights && (request.wanted.gate_up.wanted() || request.wanted.down.wanted())) {
    refuse("packed_weights", "true with a gradient of weights", "frozen weights");
  }
}

const char* to_string(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu:
      return "silu";
    case ActivationKind::kGelu:
      return "gelu";
    case ActivationKind::kGeluTanh:
      return "gelu_tanh";
    case ActivationKind::kRelu:
      return "relu";
    case ActivationKind::kRelu2:
      return "relu2";
  }
  return "unknown";
}

std::string to_string(const ActivationSpec& a) {
  std::string text = str(to_string(a.kind), a.gated ? " gated" : "");
  if (a.gate_max) text += str(" gate<=", *a.gate_max);
  if (a.up_limit) text += str(" |up|<=", *a.up_limit);
  if (a.alpha != 1.0f) text += str(" alpha=", a.alpha);
  if (a.up_shift != 0.0f) text += str(" up+", a.up_shift);
  return text;
}

}  // namespace moesmith::experts
