// SPDX-License-Identifier: Apache-2.0
// Plain loops over row-major matrices whose element is what sums are kept in: float or double.
#pragma once

#include <algorithm>
#include <cstdint>

#include "experts/carver.h"

namespace moesmith::experts::eager {

template <class Acc>
struct Matrix {
  Acc* data = nullptr;
  std::int64_t rows = 0, cols = 0;

  static Matrix carve(Carver& carver, std::int64_t rows, std::int64_t cols) {
    return {carver.take<Acc>(checked_mul(rows, cols)), rows, cols};
  }
  Acc* row(std::int64_t i) const { return data + i * cols; }
  // The first n rows.
  Matrix head(std::int64_t n) const { return {data, n, cols}; }
  void clear() const { std::fill(data, data + rows * cols, Acc(0)); }
};

// c += a b^T
template <class Acc>
void add_nt(const Matrix<Acc>& c, const Matrix<Acc>& a, const Matrix<Acc>& b) {
  for (std::int64_t i = 0; i < c.rows; ++i) {
    for (std::int64_t j = 0; j < c.cols; ++j) {
      const Acc* x = a.row(i);
      const Acc* y = b.row(j);
      Acc sum = 0;
      for (std::int64_t k = 0; k < a.cols; ++k) sum += x[k] * y[k];
      c.row(i)[j] += sum;
    }
  }
}

// c += a b
template <class Acc>
void add_nn(const Matrix<Acc>& c, const Matrix<Acc>& a, const Matrix<Acc>& b) {
  for (std::int64_t i = 0; i < c.rows; ++i) {
    for (std::int64_t k = 0; k < a.cols; ++k) {
      const Acc x = a.row(i)[k];
      for (std::int64_t j = 0; j < c.cols; ++j) c.row(i)[j] += x * b.row(k)[j];
    }
  }
}

// c += a^T b
template <class Acc>
void add_tn(const Matrix<Acc>& c, const Matrix<Acc>& a, const Matrix<Acc>& b) {
  for (std::int64_t k = 0; k < a.rows; ++k) {
    for (std::int64_t i = 0; i < c.rows; ++i) {
      const Acc x = a.row(k)[i];
      for (std::int64_t j = 0; j < c.cols; ++j) c.row(i)[j] += x * b.row(k)[j];
    }
  }
}

}  // namespace moesmith::experts::eager
