// SPDX-License-Identifier: Apache-2.0
// adapter_model.safetensors: reading into today's layout, and writing.
#include "io/adapter.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>

#include "core/log.h"
#include "core/text.h"
#include "io/adapter_targets.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

using Version = std::array<std::int64_t, 3>;

// "0.19.1", "0.20.1.dev0@abc"; what is not a number counts as 0. Empty (before 0.18) is 0.0.0.
Version parse_version(std::string_view text) {
  Version version = {0, 0, 0};
  for (std::int64_t& part : version) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), part);
    if (error != std::errc()) break;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.empty() || text[0] != '.') break;
    text.remove_prefix(1);
  }
  return version;
}

// Before 0.19.1 PEFT took the second axis of a parameter [E, d1, d2] for its input, whatever it
// was; 0.19.0 alone also exchanged the two for parameters stored transposed.
bool version_exchanges_factors(const std::string& peft_version, bool transposed) {
  const Version version = parse_version(peft_version);
  if (transposed) return version == Version{0, 19, 0};
  return version < Version{0, 19, 1};
}

enum class Layout { kToday, kExchanged, kNeither };

Layout layout_of(const AdapterSlot& slot,
                 const Shape& a,
                 const Shape& b,
                 const std::string& peft_version) {
  const bool today = a == slot.shape_a() && b == slot.shape_b();
  if (slot.num_experts == 0) return today ? Layout::kToday : Layout::kNeither;
  const bool exchanged =
      a == Shape{slot.shape_a()[0], slot.out} && b == Shape{slot.in, slot.shape_b()[1]};
  if (today && exchanged) {
    return version_exchanges_factors(peft_version, slot.transposed) ? Layout::kExchanged
                                                                    : Layout::kToday;
  }
  return today ? Layout::kToday : exchanged ? Layout::kExchanged : Layout::kNeither;
}

// delta[e] = B_e A_e either way; with factors exchanged A holds B_e^T and B holds A_e^T:
// B'[o, j*E + e] = A[e*r + j, o] and A'[e*r + j, i] = B[i, j*E + e].
AdapterFactors exchange(const AdapterFactors& old, const AdapterSlot& slot) {
  AdapterFactors today = {Tensor::empty(slot.shape_a(), DType::kF32),
                          Tensor::empty(slot.shape_b(), DType::kF32)};
  const std::int64_t num_experts = slot.num_experts;
  const std::int64_t width = num_experts * slot.r;
  const float* old_a = old.a.data<float>();
  const float* old_b = old.b.data<float>();
  float* a = today.a.data<float>();
  float* b = today.b.data<float>();
  for (std::int64_t e = 0; e < num_experts; ++e) {
    for (std::int64_t j = 0; j < slot.r; ++j) {
      const std::int64_t row = e * slot.r + j;
      const std::int64_t column = j * num_experts + e;
      for (std::int64_t o = 0; o < slot.out; ++o) b[o * width + column] = old_a[row * slot.out + o];
      for (std::int64_t i = 0; i < slot.in; ++i) a[row * slot.in + i] = old_b[i * width + column];
    }
  }
  return today;
}

// Defects of an adapter file, told together.
class Defects {
 public:
  void add(const std::string& what) {
    constexpr int kShown = 8;
    if (++count_ <= kShown) text_ += "\n  " + what;
  }
  void raise(const std::string& path) const {
    if (count_ == 0) return;
    throw Error(ErrorCode::kInvalidInput,
                str(path, ": does not fit the model and adapter_config.json: ", count_,
                    count_ == 1 ? " defect" : " defects", text_,
                    text_.empty() || count_ <= 8 ? "" : "\n  ..."));
  }

 private:
  int count_ = 0;
  std::string text_;
};

bool is_float(const TensorInfo& info) {
  return info.dtype == DType::kF32 || info.dtype == DType::kBF16 || info.dtype == DType::kF16 ||
         info.dtype == DType::kF64;
}

std::string adapter_weights(const std::string& folder) {
  const std::string path = folder + "/adapter_model.safetensors";
  std::error_code error;
  if (!fs::exists(path, error) && fs::exists(folder + "/adapter_model.bin", error)) {
    throw Error(ErrorCode::kUnsupported,
                folder + "/adapter_model.bin: pickled adapters are not read, expected " +
                    "adapter_model.safetensors; save it again with PEFT's default format");
  }
  return path;
}

}  // namespace

std::vector<AdapterFactors> read_adapter(const std::string& folder,
                                         const AdapterConfig& config,
                                         const std::vector<AdapterSlot>& slots) {
  const std::string path = adapter_weights(resolve_model(folder));
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, bool> is_expected;
  for (const TensorInfo& info : file.tensors()) is_expected[info.name] = false;
  Defects defects;
  std::vector<AdapterFactors> factors(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const AdapterSlot& slot = slots[i];
    const TensorInfo* a = file.find(slot.key_a);
    const TensorInfo* b = file.find(slot.key_b);
    for (const auto& [key, info] : {std::pair{&slot.key_a, a}, std::pair{&slot.key_b, b}}) {
      if (info == nullptr) defects.add(*key + ": is missing, expected for " + slot.target);
      if (info != nullptr) is_expected[*key] = true;
    }
    if (a == nullptr || b == nullptr) continue;
    if (!is_float(*a) || !is_float(*b)) {
      defects.add(slot.key_a + " and lora_B: got dtypes " + a->dtype_text + " and " +
                  b->dtype_text + ", expected F32, BF16 or F16");
      continue;
    }
    const Layout layout = layout_of(slot, a->shape, b->shape, config.peft_version);
    if (layout == Layout::kNeither) {
      defects.add(str(slot.key_a, " and lora_B: got shapes ", to_string(a->shape), " and ",
                      to_string(b->shape), ", expected ", to_string(slot.shape_a()), " and ",
                      to_string(slot.shape_b())));
      continue;
    }
    factors[i] = {file.tensor(*a).to(DType::kF32), file.tensor(*b).to(DType::kF32)};
    if (layout == Layout::kExchanged) factors[i] = exchange(factors[i], slot);
  }
  for (const auto& [key, expected] : is_expected) {
    if (!expected) defects.add(key + ": belongs to no target of adapter_config.json");
  }
  defects.raise(path);
  return factors;
}

void write_adapter(const std::string& folder,
                   const AdapterConfig& config,
                   const std::vector<NamedTensor>& tensors) {
  write_safetensors(folder + "/adapter_model.safetensors", tensors);
  write_file(folder + "/adapter_config.json", config.dump());
}

void write_adapter_card(const std::string& folder, const AdapterCard& card) {
  // A name that YAML could take for something else goes in quotes.
  const auto quoted = [](const std::string& text) {
    const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
                       text.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                           "._-/:") == text.npos &&
                       text.back() != ':';
    return plain ? text : Json(text).dump({.ascii = false});
  };
  std::string text = "---\n";
  if (!card.base_model.empty()) text += "base_model: " + quoted(card.base_model) + "\n";
  if (!card.datasets.empty()) text += "datasets:\n";
  for (const std::string& dataset : card.datasets) text += "- " + quoted(dataset) + "\n";
  text += "library_name: peft\npipeline_tag: text-generation\ntags:\n";
  if (!card.base_model.empty())
    text += "- " + quoted("base_model:adapter:" + card.base_model) + "\n";
  for (const std::string& tag : card.tags) text += "- " + quoted(tag) + "\n";
  text += "---\n\n" + card.body;
  if (text.back() != '\n') text += '\n';
  write_file(folder + "/README.md", text);
}

}  // namespace moesmith::io
