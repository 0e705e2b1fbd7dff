// SPDX-License-Identifier: Apache-2.0
// A dense row-major tensor in host memory. Copying a Tensor shares its storage (a heap block or a
// memory-mapped file); what it points at lives as long as any copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "moesmith/dtype.h"

namespace moesmith {

using Shape = std::vector<std::int64_t>;

// Product of the dimensions (1 for a scalar); throws Error(kInvalidInput) on a negative one or past
// 2^63.
std::int64_t numel(const Shape& shape);
// "[2, 3]"
std::string to_string(const Shape& shape);

class Tensor {
 public:
  Tensor() = default;

  // Uninitialised, 64-byte aligned.
  static Tensor empty(Shape shape, DType dtype);
  static Tensor zeros(Shape shape, DType dtype);
  // Memory that `owner` keeps alive, such as a mapped file. `data` need only be aligned to its
  // element.
  static Tensor wrap(std::shared_ptr<const void> owner, const void* data, Shape shape, DType dtype);

  bool defined() const noexcept { return data_ != nullptr || !shape_.empty(); }
  const Shape& shape() const noexcept { return shape_; }
  std::int64_t dim(std::size_t axis) const { return shape_.at(axis); }
  std::size_t rank() const noexcept { return shape_.size(); }
  DType dtype() const noexcept { return dtype_; }
  std::int64_t numel() const noexcept { return numel_; }
  std::int64_t bytes() const noexcept { return numel_ * dtype_size(dtype_); }

  void* raw() noexcept { return data_; }
  const void* raw() const noexcept { return data_; }
  // Typed access; throws Error(kInternal) when T is not the tensor's dtype.
  template <class T>
  T* data() {
    check_dtype(DTypeOf<T>::value);
    return static_cast<T*>(data_);
  }
  template <class T>
  const T* data() const {
    check_dtype(DTypeOf<T>::value);
    return static_cast<const T*>(data_);
  }

  // Same storage, other shape with the same number of elements.
  Tensor reshaped(Shape shape) const;
  // Same storage, rows [begin, end) of the first axis.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  // A copy in storage of its own, converted between F32, BF16, F16 and F64 when `dtype` differs.
  Tensor to(DType dtype) const;
  Tensor clone() const { return to(dtype_); }

 private:
  void check_dtype(DType wanted) const;

  std::shared_ptr<const void> owner_;
  void* data_ = nullptr;
  Shape shape_;
  std::int64_t numel_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace moesmith
