// SPDX-License-Identifier: Apache-2.0
#include "moesmith/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "core/checked.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector register
// From this size on a block is asked to lie on huge pages: products that walk down the columns of a
// weight touch a new page with every row.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::shared_ptr<void> allocate(std::int64_t bytes) {
  if (bytes < 0) throw Error(ErrorCode::kInvalidInput, str("a tensor of ", bytes, " bytes"));
  const auto size = static_cast<std::size_t>(round_up(bytes > 0 ? bytes : 1, kAlignment));
  const bool huge = size >= 2 * kHugePage;
  void* block =
      std::aligned_alloc(huge ? kHugePage : kAlignment,
                         huge ? static_cast<std::size_t>(round_up(bytes, kHugePage)) : size);
  if (block == nullptr) {
    throw Error(ErrorCode::kOutOfMemory,
                str("the system has no ", human_bytes(static_cast<double>(bytes)), " left"));
  }
#ifdef MADV_HUGEPAGE
  if (huge) madvise(block, size, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
  return {block, std::free};
}

template <class From, class To>
void convert(const void* from, void* to, std::int64_t count) {
  const auto* source = static_cast<const From*>(from);
  auto* target = static_cast<To*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<To, double>) {
      if constexpr (std::is_same_v<From, double>) {
        target[i] = source[i];
      } else {
        target[i] = static_cast<double>(static_cast<float>(source[i]));
      }
    } else {
      target[i] = static_cast<To>(static_cast<float>(source[i]));
    }
  }
}

template <class From>
bool convert_from(const void* from, void* to, DType to_dtype, std::int64_t count) {
  switch (to_dtype) {
    case DType::kF32:
      convert<From, float>(from, to, count);
      return true;
    case DType::kBF16:
      convert<From, bf16>(from, to, count);
      return true;
    case DType::kF16:
      convert<From, fp16>(from, to, count);
      return true;
    case DType::kF64:
      convert<From, double>(from, to, count);
      return true;
    default:
      return false;
  }
}

bool convert_any(const void* from, DType from_dtype, void* to, DType to_dtype, std::int64_t count) {
  switch (from_dtype) {
    case DType::kF32:
      return convert_from<float>(from, to, to_dtype, count);
    case DType::kBF16:
      return convert_from<bf16>(from, to, to_dtype, count);
    case DType::kF16:
      return convert_from<fp16>(from, to, to_dtype, count);
    case DType::kF64:
      return convert_from<double>(from, to, to_dtype, count);
    default:
      return false;
  }
}

}  // namespace

std::int64_t numel(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) {
    if (dim < 0)
      throw Error(ErrorCode::kInvalidInput,
                  "shape " + to_string(shape) + " has a negative dimension");
    count = checked_mul(count, dim);
  }
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

Tensor Tensor::empty(Shape shape, DType dtype) {
  Tensor tensor;
  tensor.numel_ = moesmith::numel(shape);
  auto block = allocate(checked_mul(tensor.numel_, dtype_size(dtype)));
  tensor.data_ = block.get();
  tensor.owner_ = std::move(block);
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype) {
  Tensor tensor = empty(std::move(shape), dtype);
  std::memset(tensor.data_, 0, static_cast<std::size_t>(tensor.bytes()));
  return tensor;
}

Tensor Tensor::wrap(std::shared_ptr<const void> owner, const void* data, Shape shape, DType dtype) {
  Tensor tensor;
  tensor.numel_ = moesmith::numel(shape);
  tensor.owner_ = std::move(owner);
  // A mapped file is read-only; writing through a wrapped tensor is a defect that the page
  // protection catches.
  tensor.data_ = const_cast<void*>(data);
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::reshaped(Shape shape) const {
  if (moesmith::numel(shape) != numel_) {
    throw Error(ErrorCode::kInternal,
                "cannot view " + to_string(shape_) + " as " + to_string(shape));
  }
  Tensor view = *this;
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  if (shape_.empty() || begin < 0 || end < begin || end > shape_[0]) {
    throw Error(ErrorCode::kInternal, str("rows [", begin, ", ", end, ") of ", to_string(shape_)));
  }
  Tensor view = *this;
  const std::int64_t row = shape_[0] == 0 ? 0 : numel_ / shape_[0];
  view.shape_[0] = end - begin;
  view.numel_ = row * (end - begin);
  view.data_ = static_cast<std::byte*>(data_) + begin * row * dtype_size(dtype_);
  return view;
}

Tensor Tensor::to(DType dtype) const {
  Tensor copy = empty(shape_, dtype);
  if (dtype == dtype_) {
    if (numel_ > 0) std::memcpy(copy.data_, data_, static_cast<std::size_t>(bytes()));
  } else if (!convert_any(data_, dtype_, copy.data_, dtype, numel_)) {
    throw Error(ErrorCode::kInternal,
                str("no conversion from ", dtype_name(dtype_), " to ", dtype_name(dtype)));
  }
  return copy;
}

void Tensor::check_dtype(DType wanted) const {
  if (wanted != dtype_) {
    throw Error(ErrorCode::kInternal,
                str("a tensor of ", dtype_name(dtype_), " was read as ", dtype_name(wanted)));
  }
}

}  // namespace moesmith
