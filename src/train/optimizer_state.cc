// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer_state.h"

#include <cstring>
#include <vector>

#include "core/text.h"
#include "io/safetensors.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

struct Kind {
  const char* prefix;
  Tensor& (*of)(Optimizer::Slot&);
};

constexpr Kind kKinds[] = {
    {"master.", [](Optimizer::Slot& slot) -> Tensor& { return slot.parameter->master; }},
    {"exp_avg.", [](Optimizer::Slot& slot) -> Tensor& { return slot.exp_avg; }},
    {"exp_avg_sq.", [](Optimizer::Slot& slot) -> Tensor& { return slot.exp_avg_sq; }},
};

}  // namespace

void write_optimizer(const std::string& folder, const Optimizer& optimizer) {
  std::vector<io::NamedTensor> tensors;
  for (const Optimizer::Slot& slot : optimizer.slots()) {
    Optimizer::Slot shared = slot;
    for (const Kind& kind : kKinds) {
      tensors.emplace_back(kind.prefix + slot.parameter->name, kind.of(shared));
    }
  }
  io::write_safetensors(folder + "/" + kOptimizerFile, tensors);
}

void read_optimizer(const std::string& folder, Optimizer& optimizer) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(folder + "/" + kOptimizerFile);
  const std::size_t expected = optimizer.slots().size() * std::size(kKinds);
  for (Optimizer::Slot& slot : optimizer.slots()) {
    for (const Kind& kind : kKinds) {
      const std::string name = kind.prefix + slot.parameter->name;
      const io::TensorInfo* info = file.find(name);
      Tensor& target = kind.of(slot);
      if (info == nullptr) {
        throw Error(ErrorCode::kInvalidInput, str(file.path(), ": no tensor ", name));
      }
      if (info->shape != target.shape() || info->dtype != DType::kF32) {
        throw Error(ErrorCode::kInvalidInput,
                    str(file.path(), ": ", name, ", got ", info->dtype_text, " ",
                        to_string(info->shape), ", expected F32 ", to_string(target.shape())));
      }
      const Tensor stored = file.tensor(*info);
      if (stored.bytes() > 0) {
        std::memcpy(target.raw(), stored.raw(), static_cast<std::size_t>(stored.bytes()));
      }
    }
  }
  if (file.tensors().size() != expected) {
    throw Error(ErrorCode::kInvalidInput,
                str(file.path(), ": got ", file.tensors().size(), " tensors, expected the ",
                    expected, " of the parameters that are trained"));
  }
}

}  // namespace moesmith::train
