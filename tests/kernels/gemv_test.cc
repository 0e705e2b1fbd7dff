// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemv/gemv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/cpu_features.h"
#include "core/rng.h"
#include "moesmith/error.h"

namespace moesmith::kernels::gemv {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Case {
  std::int64_t num_rows, n, k;
  bool along_k;  // B contiguous along k
  DType dtype;
  bool narrow, add;
};

// One product in memory of exactly its size, what lies between rows being NaN.
struct Product {
  Product(const Case& one, std::int64_t shift) : c(one) {
    const Rng rng(11, 0);
    const auto count = static_cast<std::size_t>(c.num_rows * c.k);
    x.resize(count + 3);
    narrow_x.resize(count + 3);
    for (std::size_t i = 0; i < count; ++i) {
      narrow_x[i + at(shift)] = bf16(static_cast<float>(rng.normal(i)));
      x[i + at(shift)] = static_cast<float>(narrow_x[i + at(shift)]);
    }
    for (std::int64_t r = 0; r < c.num_rows; ++r) {
      rows.push_back(x.data() + shift + r * c.k);
      narrow_rows.push_back(narrow_x.data() + shift + r * c.k);
    }
    const std::int64_t outer = c.along_k ? c.n : c.k, inner = c.along_k ? c.k : c.n;
    stride = inner + 5;
    const std::int64_t size = outer == 0 ? 0 : (outer - 1) * stride + inner;
    wide_b.assign(at(size + shift), kNaN);
    narrow_b.assign(at(size + shift), bf16(kNaN));
    values.resize(at(c.n * c.k));
    for (std::int64_t i = 0; i < outer * inner; ++i) {
      const float value = static_cast<float>(bf16(static_cast<float>(rng.normal(at(i + 100000)))));
      const std::int64_t o = i / inner, j = i % inner;
      wide_b[at(shift + o * stride + j)] = value;
      narrow_b[at(shift + o * stride + j)] = bf16(value);
      values[at(c.along_k ? j * c.n + o : i)] = value;  // [k, n]
    }
    b = {c.dtype == DType::kBF16 ? static_cast<const void*>(narrow_b.data() + shift)
                                 : static_cast<const void*>(wide_b.data() + shift),
         c.dtype, c.along_k ? 1 : stride, c.along_k ? stride : 1};
  }
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  std::vector<float> run() const {
    const std::int64_t ld = c.n + 2;
    std::vector<float> out(at(c.num_rows * ld + 1), c.add ? 0.5f : kNaN);
    for (std::int64_t r = 0; r < c.num_rows; ++r) out[at(r * ld + c.n)] = 7;
    kernels::gemv::run({rows.data(), c.narrow ? narrow_rows.data() : nullptr, c.num_rows, b, c.n,
                        c.k, out.data(), ld, c.add});
    for (std::int64_t r = 0; r < c.num_rows; ++r) EXPECT_EQ(out[at(r * ld + c.n)], 7) << "past n";
    std::vector<float> dense;
    for (std::int64_t r = 0; r < c.num_rows; ++r) {
      dense.insert(dense.end(), out.begin() + r * ld, out.begin() + r * ld + c.n);
    }
    return dense;
  }

  void expect_matches(const std::vector<float>& out) const {
    for (std::int64_t r = 0; r < c.num_rows; ++r) {
      for (std::int64_t j = 0; j < c.n; ++j) {
        double want = c.add ? 0.5 : 0.0, size = want;
        for (std::int64_t i = 0; i < c.k; ++i) {
          const double term =
              static_cast<double>(rows[at(r)][i]) * static_cast<double>(values[at(i * c.n + j)]);
          want += term;
          size += std::abs(term);
        }
        const double got = static_cast<double>(out[at(r * c.n + j)]);
        ASSERT_LE(std::abs(got - want), 0x1p-22 * size) << "row " << r << " column " << j;
      }
    }
  }

  Case c;
  std::vector<float> x, wide_b, values;
  std::vector<bf16> narrow_x, narrow_b;
  std::vector<const float*> rows;
  std::vector<const bf16*> narrow_rows;
  std::int64_t stride = 0;
  gemm::Operand b;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    for (const bool along_k : {true, false}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (const bool narrow : {false, true}) {
          all.push_back({m, n, k, along_k, dtype, narrow, (m + n + k) % 2 == 0});
        }
      }
    }
  };
  for (std::int64_t k = 0; k <= 131; ++k) add(1 + k % 3, 2, k);  // every remainder along k
  for (std::int64_t n = 1; n <= 35; ++n) add(3, n, 9);
  for (std::int64_t m = 1; m <= 16; ++m) add(m, 5, 70);  // every group of rows
  add(2, 3, 2000);
  return all;
}

template <class Body>
void on_each_isa(const Body& body) {
  const IsaLevel before = active_isa();
  for (const IsaLevel isa :
       {IsaLevel::kPortable, IsaLevel::kAvx2, IsaLevel::kAvx512, IsaLevel::kAvx512Bf16}) {
    if (isa > detected_isa()) continue;
    set_isa(isa);
    SCOPED_TRACE(isa_name(isa));
    body();
  }
  set_isa(before);
}

TEST(gemv, matches_double_at_every_remainder_on_every_instruction_set) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(::testing::Message()
                 << "m " << c.num_rows << " n " << c.n << " k " << c.k << " along_k " << c.along_k
                 << " " << dtype_name(c.dtype) << " narrow " << c.narrow << " add " << c.add);
    const Product product(c, 1);
    on_each_isa([&] { product.expect_matches(product.run()); });
    if (HasFatalFailure()) return;
  }
}

TEST(gemv, gives_a_row_the_same_bits_alone_and_among_others_wherever_it_lies) {
  for (const bool along_k : {true, false}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const bool narrow : {false, true}) {
        const Case many{11, 37, 203, along_k, dtype, narrow, false};
        const Product product(many, 0), shifted(many, 1);
        on_each_isa([&] {
          const std::vector<float> all = product.run();
          EXPECT_EQ(all, shifted.run()) << "moved by one element";
          for (std::int64_t r = 0; r < many.num_rows; ++r) {
            Product one = product;
            one.c.num_rows = 1;
            one.rows = {product.rows[Product::at(r)]};
            one.narrow_rows = {product.narrow_rows[Product::at(r)]};
            const auto first = all.begin() + r * many.n;
            EXPECT_EQ(std::vector<float>(first, first + many.n), one.run()) << "row " << r;
          }
          // Columns apart: a caller may cut n anywhere.
          Product part = product;
          part.c.n = 20;
          part.b.data = static_cast<const char*>(product.b.data) +
                        17 * product.b.col_stride * dtype_size(dtype);
          const std::vector<float> right = part.run();
          for (std::int64_t r = 0; r < many.num_rows; ++r) {
            EXPECT_EQ(std::memcmp(&right[Product::at(r * 20)], &all[Product::at(r * 37 + 17)],
                                  20 * sizeof(float)),
                      0);
          }
        });
      }
    }
  }
}

TEST(gemv, refuses_a_matrix_without_a_unit_stride) {
  Product product({1, 2, 2, true, DType::kF32, false, false}, 0);
  product.b.row_stride = 2;
  product.b.col_stride = 4;
  EXPECT_THROW(product.run(), Error);
}

}  // namespace
}  // namespace moesmith::kernels::gemv
