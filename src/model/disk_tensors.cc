// SPDX-License-Identifier: Apache-2.0
// The model's tensors as a checkpoint spells them, adapters merged on request.
#include <algorithm>
#include <cstring>

#include "core/text.h"
#include "kernels/gemm/gemm.h"
#include "model/causal_lm.h"
#include "model/decoder.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

// The rows [first, first + rows) of expert `expert`'s [out, in] matrix that a disk tensor holds;
// num_experts of them one after the other when it is fused.
struct Piece {
  std::int64_t expert = 0, num_experts = 1, first = 0, rows = 0, cols = 0;
  Shape shape;
};

Piece piece_of(const Weight& weight, std::size_t index) {
  const Shape& shape = weight.spec.shape;
  if (!weight.per_expert()) {
    const bool experts = shape.size() == 3;
    const std::int64_t rows = experts ? shape[1] : shape[0];
    const std::int64_t cols = shape.size() == 1 ? 1 : shape.back();
    return {0, experts ? shape[0] : 1, 0, rows, cols, shape};
  }
  const auto parts = weight.spec.parts.size();
  const Shape part = weight.spec.part_shape();
  return {static_cast<std::int64_t>(index / parts),
          1,
          static_cast<std::int64_t>(index % parts) * part[0],
          part[0],
          part[1],
          part};
}

// As it is now, before merging. Frozen tensors come from the file, whatever they are computed in.
Tensor current(const Decoder& d, const Weight& weight, std::size_t index, const Piece& piece) {
  if (!weight.parameter.trainable && d.checkpoint) {
    return d.checkpoint->tensor(weight.disk_names[index]);
  }
  const Parameter& p = weight.parameter;
  const Tensor& from = p.trainable ? p.master : p.value;
  if (!weight.per_expert()) return from;
  const std::int64_t rows = weight.spec.shape[1];
  return from.reshaped({weight.spec.shape[0] * rows, piece.cols})
      .rows(piece.expert * rows + piece.first, piece.expert * rows + piece.first + piece.rows);
}

// w [rows, in] += scale * B_e A_e, rows [first, first + rows) of B.
void merge(const Lora& lora, std::int64_t expert, std::int64_t first, std::int64_t rows, float* w) {
  const io::AdapterSlot& slot = lora.slot;
  const std::int64_t e = std::max<std::int64_t>(1, slot.num_experts), r = slot.r;
  const auto* a = lora.a.value.data<float>();
  const auto* b = lora.b.value.data<float>();
  // PEFT's B has the experts of one rank side by side: column j * E + e.
  std::vector<float> factor(static_cast<std::size_t>(rows * r));
  for (std::int64_t o = 0; o < rows; ++o) {
    for (std::int64_t j = 0; j < r; ++j) {
      factor[static_cast<std::size_t>(o * r + j)] = b[(first + o) * r * e + j * e + expert];
    }
  }
  namespace gemm = kernels::gemm;
  gemm::Args args;
  args.m = rows;
  args.n = slot.in;
  args.k = r;
  args.a = gemm::row_major(factor.data(), DType::kF32, r);
  args.b = gemm::row_major(a + expert * r * slot.in, DType::kF32, slot.in);
  args.c = w;
  args.ldc = slot.in;
  args.alpha = static_cast<float>(slot.scale);
  args.accumulate = true;
  ThreadPool alone(1);
  gemm::run(args, alone);
}

const Lora* lora_of(const Decoder& d, const Weight& weight) {
  for (const Lora& lora : d.loras) {
    const std::string& target = lora.slot.target;
    if (target == weight.spec.name || target + ".weight" == weight.spec.name) return &lora;
  }
  return nullptr;
}

}  // namespace

std::vector<DiskTensor> CausalLM::disk_tensors() const {
  std::vector<DiskTensor> list;
  for (const Weight& weight : decoder_->weights) {
    for (std::size_t i = 0; i < weight.disk_names.size(); ++i) {
      list.push_back({weight.disk_names[i], piece_of(weight, i).shape, weight.disk_dtype});
    }
  }
  return list;
}

Tensor CausalLM::disk_tensor(std::size_t index, bool merge_adapter) const {
  const Decoder& d = *decoder_;
  for (const Weight& weight : d.weights) {
    if (index >= weight.disk_names.size()) {
      index -= weight.disk_names.size();
      continue;
    }
    const Piece piece = piece_of(weight, index);
    const Tensor now = current(d, weight, index, piece);
    const Lora* lora = merge_adapter ? lora_of(d, weight) : nullptr;
    if (lora == nullptr) {
      return now.dtype() == weight.disk_dtype ? now : now.to(weight.disk_dtype);
    }
    Tensor sum = now.to(DType::kF32);
    for (std::int64_t e = 0; e < piece.num_experts; ++e) {
      merge(*lora, piece.expert + e, piece.first, piece.rows,
            sum.data<float>() + e * piece.rows * piece.cols);
    }
    return weight.disk_dtype == DType::kF32 ? sum : sum.to(weight.disk_dtype);
  }
  throw Error(ErrorCode::kInternal, str("disk tensor: got index past the end by ", index));
}

std::string CausalLM::memory_name(std::string_view disk_name) const {
  for (const Weight& weight : decoder_->weights) {
    const auto& names = weight.disk_names;
    if (std::find(names.begin(), names.end(), disk_name) != names.end()) return weight.spec.name;
  }
  return "";
}

std::vector<std::string> CausalLM::disk_names(std::string_view memory_name) const {
  for (const Weight& weight : decoder_->weights) {
    if (weight.spec.name == memory_name) return weight.disk_names;
  }
  return {};
}

}  // namespace moesmith::model
