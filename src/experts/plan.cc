// SPDX-License-Identifier: Apache-2.0
// One plan or one error: walks the table, and never puts one implementation in another's place.
#include <vector>

#include "core/text.h"
#include "core/thread_pool.h"
#include "experts/auto_table.h"
#include "experts/implementation.h"
#include "experts/request.h"
#include "moesmith/error.h"

namespace moesmith::experts {
namespace {

std::string known_names() {
  std::string names;
  for (const Implementation& one : implementations()) names += str(one.name, ", ");
  return names + "auto";
}

const Implementation* find_implementation(std::string_view name) {
  for (const Implementation& one : implementations()) {
    if (name == one.name) return &one;
  }
  return nullptr;
}

[[noreturn]] void refuse_all(const ExpertsRequest& request) {
  std::string message = str("experts: no plan for experts_implementation ", request.implementation,
                            "; each implementation against this request:");
  for (const Verdict& verdict : explain_experts(request)) {
    message += str("\n  ", verdict.name, ": ", verdict.accepted ? "would run, " : "", verdict.text);
  }
  throw Error(ErrorCode::kUnsupported, message);
}

void check_device(const ExpertsRequest& request, Device called) {
  if (request.device == called) return;
  throw Error(ErrorCode::kInvalidInput,
              called == Device::kCpu
                  ? "experts call: a plan for CUDA got a thread pool, expected a CudaStream"
                  : "experts call: a plan for the CPU got a CudaStream, expected a thread pool");
}

std::string lora_text(const char* name, const LoraSpec& lora) {
  if (lora.lora_rank == 0) return "";
  return str(", LoRA on ", name, " r=", lora.lora_rank, " scale=", lora.lora_scale);
}

}  // namespace

bool WantedGradients::any() const noexcept {
  for (const GradSpec* spec : {&hidden, &top_k_weights, &gate_up, &down, &gate_up_bias, &down_bias,
                               &gate_up_a, &gate_up_b, &down_a, &down_b}) {
    if (spec->wanted()) return true;
  }
  return false;
}

ExpertsPlan::ExpertsPlan(ExpertsRequest request, const Implementation* implementation)
    : request_(std::move(request)), implementation_(implementation) {}

std::string_view ExpertsPlan::implementation() const noexcept { return implementation_->name; }

std::string ExpertsPlan::to_string() const {
  const ExpertsRequest& r = request_;
  return str(implementation_->name, " (", description_of(*implementation_, r),
             "): E=", r.num_experts, " K=", r.top_k, " H=", r.hidden, " I=", r.inter, ", ",
             dtype_name(r.compute_dtype), ", weights ", dtype_name(r.weight_dtype), ", ",
             experts::to_string(r.activation), lora_text("gate_up", r.gate_up_lora),
             lora_text("down", r.down_lora), r.recompute_h ? ", h computed twice" : "");
}

ExpertsSizes ExpertsPlan::sizes(std::int64_t num_tokens, int num_threads) const {
  if (request_.device == Device::kCuda) return implementation_->cuda->sizes(request_, num_tokens);
  return implementation_->sizes(request_, num_tokens, num_threads);
}

std::int64_t ExpertsPlan::packed_bytes() const {
  if (!request_.packed_weights || request_.device != Device::kCpu) return 0;
  return implementation_->packed_bytes == nullptr ? 0 : implementation_->packed_bytes(request_);
}

void ExpertsPlan::pack(const ExpertsWeights& weights,
                       std::span<std::byte> packed,
                       ThreadPool& pool) const {
  check_pack(*this, weights, packed.size());
  if (packed_bytes() > 0) implementation_->pack(request_, weights, packed, pool);
}

void ExpertsPlan::forward(const ForwardArgs& args, ThreadPool& pool) const {
  check_device(request_, Device::kCpu);
  check_forward(*this, args, pool.num_threads());
  implementation_->forward(request_, args, pool);
}

void ExpertsPlan::backward(const BackwardArgs& args, ThreadPool& pool) const {
  check_device(request_, Device::kCpu);
  check_backward(*this, args, pool.num_threads());
  implementation_->backward(request_, args, pool);
}

void ExpertsPlan::forward(const ForwardArgs& args, const CudaStream& stream) const {
  check_device(request_, Device::kCuda);
  check_forward(*this, args, 1);
  implementation_->cuda->forward(request_, args, stream);
}

void ExpertsPlan::backward(const BackwardArgs& args, const CudaStream& stream) const {
  check_device(request_, Device::kCuda);
  check_backward(*this, args, 1);
  implementation_->cuda->backward(request_, args, stream);
}

ExpertsPlan plan_experts(const ExpertsRequest& request) {
  check_request(request);
  const char* named[] = {request.implementation.c_str()};
  std::span<const char* const> order = named;
  AutoChoice choice;
  if (request.implementation == "auto") {
    choice = auto_choice(request);
    order = choice.order;
  }
  for (const char* name : order) {
    const Implementation* one = find_implementation(name);
    if (one == nullptr) {
      throw Error(ErrorCode::kInvalidInput,
                  str("experts request: implementation: got ", request.implementation,
                      ", expected one of ", known_names()));
    }
    if (!refusal_of(*one, request)) return ExpertsPlan(request, one);
  }
  refuse_all(request);
}

std::vector<Verdict> explain_experts(const ExpertsRequest& request) {
  check_request(request);
  std::vector<Verdict> verdicts;
  for (const Implementation& one : implementations()) {
    const Refusal refusal = refusal_of(one, request);
    verdicts.push_back({one.name, !refusal, refusal ? *refusal : description_of(one, request)});
  }
  return verdicts;
}

}  // namespace moesmith::experts
