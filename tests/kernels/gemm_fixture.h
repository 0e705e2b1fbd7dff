// SPDX-License-Identifier: Apache-2.0
// One product in guarded buffers, its oracle and the tolerance that both tests of gemm use.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/cpu_features.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "kernels/gemm/gemm.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::gemm {

inline std::vector<IsaLevel> isa_levels() {
  std::vector<IsaLevel> levels;
  for (int i = 0; i <= static_cast<int>(detected_isa()); ++i) {
    levels.push_back(static_cast<IsaLevel>(i));
  }
  return levels;
}

// Restores the level when a test ends.
class IsaScope {
 public:
  explicit IsaScope(IsaLevel level) : before_(active_isa()) { set_isa(level); }
  ~IsaScope() { set_isa(before_); }

 private:
  IsaLevel before_;
};

struct Case {
  std::int64_t m, n, k;
  DType a_dtype = DType::kF32, b_dtype = DType::kF32, c_dtype = DType::kF32;
  bool a_transposed = false, b_transposed = false;  // a stored [k, m], b stored [n, k]
  float alpha = 1.0f;
  bool accumulate = false, with_bias = false;
  std::int64_t pad = 3;  // elements between rows

  std::string name() const {
    return str("m=", m, " n=", n, " k=", k, " a=", dtype_name(a_dtype), (a_transposed ? "^T" : ""),
               " b=", dtype_name(b_dtype), (b_transposed ? "^T" : ""), " c=", dtype_name(c_dtype),
               " alpha=", alpha, " accumulate=", accumulate, " bias=", with_bias,
               " isa=", isa_name(active_isa()));
  }
};

// Values of a matrix in memory, every other element NaN.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t cols, std::int64_t pad, DType dtype)
      : dtype_(dtype), rows_(rows), cols_(cols), stride_(cols + pad), bytes_(size()) {
    for (std::int64_t i = 0; i < count(); ++i) {
      set_at(i, std::numeric_limits<float>::quiet_NaN());
    }
  }
  // Uniform in [-1, 1], the same for the same seed.
  void fill(std::uint64_t seed) {
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < cols_; ++j) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        set_at(i * stride_ + j,
               static_cast<float>(static_cast<std::int32_t>(seed >> 32)) * 0x1p-31f);
      }
    }
  }
  void* data() { return bytes_.data(); }
  float at(std::int64_t i, std::int64_t j) const { return get(i * stride_ + j); }
  std::int64_t stride() const { return stride_; }
  Operand operand(bool transposed) {
    return transposed ? Operand{data(), dtype_, 1, stride_} : Operand{data(), dtype_, stride_, 1};
  }
  const std::vector<char>& bytes() const { return bytes_; }
  // The padding and the rows after the last one are as they were made.
  bool guards_untouched() const {
    for (std::int64_t i = 0; i < count(); ++i) {
      if (i / stride_ < rows_ && i % stride_ < cols_) continue;
      if (!std::isnan(get(i))) return false;
    }
    return true;
  }

 private:
  std::int64_t count() const { return (rows_ + 1) * stride_; }
  std::size_t size() const { return static_cast<std::size_t>(count() * dtype_size(dtype_)); }
  void set_at(std::int64_t i, float value) {
    if (dtype_ == DType::kF32) {
      std::memcpy(bytes_.data() + i * 4, &value, 4);
    } else {
      const bf16 narrow(value);
      std::memcpy(bytes_.data() + i * 2, &narrow, 2);
    }
  }
  float get(std::int64_t i) const {
    float value;
    if (dtype_ == DType::kF32) {
      std::memcpy(&value, bytes_.data() + i * 4, 4);
    } else {
      bf16 narrow;
      std::memcpy(&narrow, bytes_.data() + i * 2, 2);
      value = static_cast<float>(narrow);
    }
    return value;
  }

  DType dtype_;
  std::int64_t rows_, cols_, stride_;
  std::vector<char> bytes_;
};

struct Problem {
  explicit Problem(const Case& given)
      : c(given),
        a(c.a_transposed ? c.k : c.m, c.a_transposed ? c.m : c.k, c.pad, c.a_dtype),
        b(c.b_transposed ? c.n : c.k, c.b_transposed ? c.k : c.n, c.pad, c.b_dtype),
        bias(1, c.n, 0, c.b_dtype),
        out(c.m, c.n, c.pad, c.c_dtype) {
    a.fill(1);
    b.fill(2);
    bias.fill(3);
    if (c.accumulate) out.fill(4);
  }
  Args args(Matrix& into) {
    Args args;
    args.m = c.m, args.n = c.n, args.k = c.k;
    args.a = a.operand(c.a_transposed);
    args.b = b.operand(c.b_transposed);
    args.c = into.data();
    args.c_dtype = c.c_dtype;
    args.ldc = into.stride();
    args.alpha = c.alpha;
    args.accumulate = c.accumulate;
    if (c.with_bias) {
      args.bias = bias.data();
      args.bias_dtype = c.b_dtype;
    }
    return args;
  }
  Case c;
  Matrix a, b, bias, out;
};

// |sum in f32 - exact| <= lambda sqrt(k) u sum |a b| but for a chance of 2 exp(-lambda^2 / 2)
// (Higham and Mary 2019); E |a b| = 1/4, twice that covers every draw. The three operations after
// it round once each, and the result is stored in c_dtype.
inline double tolerance(const Case& c, double exact) {
  constexpr double kUnit = 0x1p-24, kLambda = 6;
  const double k = static_cast<double>(c.k);
  const double sums = kLambda * std::sqrt(k) * kUnit * std::abs(c.alpha) * k / 2;
  const double stored = c.c_dtype == DType::kBF16 ? 0x1p-8 : kUnit;
  return sums + 8 * kUnit * (1 + std::abs(exact)) + stored * std::abs(exact);
}

// Runs the case in guarded memory and compares with the double sums of run_reference.
void expect_matches_reference(const Case& c, ThreadPool& pool);

}  // namespace moesmith::kernels::gemm
