// SPDX-License-Identifier: Apache-2.0
// Writing safetensors files in the layout of the safetensors library.
#include <algorithm>
#include <array>

#include "core/checked.h"
#include "core/text.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

// The library sorts by its own list of types, last first, then by name: wider types come before
// narrower ones, so each tensor is aligned.
int dtype_order(DType dtype) {
  constexpr std::array kOrder = {DType::kI64, DType::kF64, DType::kF32, DType::kI32, DType::kBF16,
                                 DType::kF16, DType::kI16, DType::kI8,  DType::kU8,  DType::kBool};
  return static_cast<int>(std::find(kOrder.begin(), kOrder.end(), dtype) - kOrder.begin());
}

Json to_json(const TensorSpec& spec, std::int64_t begin, std::int64_t end) {
  Json entry = Json::object();
  entry.set("dtype", dtype_name(spec.dtype));
  entry.set("shape", Json::array_of(spec.shape));
  entry.set("data_offsets", Json::array_of(std::vector<std::int64_t>{begin, end}));
  return entry;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path,
                                     std::vector<TensorSpec> tensors,
                                     const Metadata& metadata)
    : file_(std::move(path)) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const int left = dtype_order(a.dtype);
    const int right = dtype_order(b.dtype);
    return left != right ? left < right : a.name < b.name;
  });
  JsonObject header;
  if (!metadata.empty()) {
    Json entry = Json::object();
    for (const auto& [key, value] : metadata) entry.set(key, value);
    header.set("__metadata__", std::move(entry));
  }
  std::int64_t end = 0;
  for (TensorSpec& spec : tensors) {
    const std::int64_t begin = end;
    const std::int64_t bytes = checked_mul(numel(spec.shape), dtype_size(spec.dtype));
    end = checked_add(begin, bytes);
    if (header.contains(spec.name)) {
      throw Error(ErrorCode::kInternal, file_.path() + ": " + spec.name + ": is given twice");
    }
    header.set(spec.name, to_json(spec, begin, end));
    index_.emplace(spec.name, slots_.size());
    slots_.push_back({std::move(spec), begin, bytes, 0});
  }
  std::string text = Json(std::move(header)).dump({.spaces = false, .ascii = false});
  text.append((8 - text.size() % 8) % 8, ' ');
  const auto length = static_cast<std::uint64_t>(text.size());
  const auto data_begin = static_cast<std::int64_t>(sizeof length + text.size());
  file_.reserve(data_begin + end);
  file_.append(&length, sizeof length);
  file_.append(text.data(), static_cast<std::int64_t>(text.size()));
  for (Slot& slot : slots_) slot.begin += data_begin;
}

SafetensorsWriter::Slot& SafetensorsWriter::slot(std::string_view name) {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    throw Error(ErrorCode::kInternal,
                file_.path() + ": " + std::string(name) + ": was not announced");
  }
  return slots_[found->second];
}

void SafetensorsWriter::write(std::string_view name, const Tensor& tensor) {
  Slot& target = slot(name);
  if (tensor.dtype() != target.spec.dtype || tensor.shape() != target.spec.shape) {
    throw Error(ErrorCode::kInternal,
                str(file_.path(), ": ", name, ": got ", dtype_name(tensor.dtype()), " ",
                    to_string(tensor.shape()), ", announced as ", dtype_name(target.spec.dtype),
                    " ", to_string(target.spec.shape)));
  }
  if (target.written != 0) {
    throw Error(ErrorCode::kInternal, str(file_.path(), ": ", name, ": is written twice"));
  }
  file_.write_at(target.begin, tensor.raw(), target.bytes);
  target.written = target.bytes;
}

void SafetensorsWriter::write_rows(std::string_view name, std::int64_t first, const Tensor& rows) {
  Slot& target = slot(name);
  Shape whole = rows.shape();
  const bool fits = !whole.empty() && !target.spec.shape.empty() && first >= 0 &&
                    whole[0] <= target.spec.shape[0] && first <= target.spec.shape[0] - whole[0];
  if (fits) whole[0] = target.spec.shape[0];
  if (!fits || whole != target.spec.shape || rows.dtype() != target.spec.dtype ||
      rows.bytes() > target.bytes - target.written) {
    throw Error(ErrorCode::kInternal,
                str(file_.path(), ": ", name, ": got rows from ", first, " of ",
                    dtype_name(rows.dtype()), " ", to_string(rows.shape()), ", announced as ",
                    dtype_name(target.spec.dtype), " ", to_string(target.spec.shape)));
  }
  const std::int64_t row_bytes = whole[0] == 0 ? 0 : target.bytes / whole[0];
  file_.write_at(target.begin + first * row_bytes, rows.raw(), rows.bytes());
  target.written += rows.bytes();
}

void SafetensorsWriter::finish() {
  for (const Slot& slot : slots_) {
    if (slot.written != slot.bytes) {
      throw Error(ErrorCode::kInternal, str(file_.path(), ": ", slot.spec.name, ": has ",
                                            slot.written, " bytes of ", slot.bytes));
    }
  }
  file_.commit();
}

void write_safetensors(const std::string& path,
                       const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.dtype(), tensor.shape()});
  }
  SafetensorsWriter writer(path, std::move(specs), metadata);
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
  writer.finish();
}

}  // namespace moesmith::io
