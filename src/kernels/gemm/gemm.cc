// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.h"

#include "core/text.h"
#include "kernels/gemm/packed_b.h"
#include "kernels/gemm/product.h"
#include "kernels/gemm/scratch.h"
#include "moesmith/error.h"

namespace moesmith::kernels::gemm {
namespace {

// Waking the pool costs some microseconds: below this many multiplications one thread is sooner
// done.
constexpr std::int64_t kSerialProducts = 1 << 16;
// Up to this many rows inner products of the plain rows beat packing B, whose cost is that of about
// five rows of A.
constexpr std::int64_t kDotRows = 8;
constexpr std::int64_t kMinDotK = 64;  // below it the sums across lanes dominate
// A transposed A is packed as if it were B, at unit stride, when B is that narrow.
constexpr std::int64_t kSwapColumns = 32;

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

void check(bool ok, const char* what) {
  if (!ok) throw Error(ErrorCode::kInternal, str("gemm: ", what));
}

void check_operand(const Operand& x, std::int64_t rows, std::int64_t cols) {
  check(is_float(x.dtype), "operands must be f32 or bf16");
  if (rows == 0 || cols == 0) return;
  check(x.data != nullptr, "operand without data");
  check(rows == 1 || cols == 1 || x.row_stride == 1 || x.col_stride == 1,
        "one stride of an operand must be 1");
}

void validate(const Args& args) {
  check(args.m >= 0 && args.n >= 0 && args.k >= 0, "negative size");
  check(is_float(args.c_dtype), "C must be f32 or bf16");
  if (args.m == 0 || args.n == 0) return;
  check(args.c != nullptr, "C without data");
  check(args.m == 1 || args.ldc >= args.n, "ldc is less than n");
  check(args.bias == nullptr || is_float(args.bias_dtype), "bias must be f32 or bf16");
  check_operand(args.a, args.m, args.k);
  if (args.packed_b == nullptr) {
    check_operand(args.b, args.k, args.n);
  } else {
    check(args.packed_b->has_part(args.packed_row, args.packed_col, args.k, args.n),
          "the packed B has no such part");
  }
}

// A stride along an axis of length 1 is never used: makes it say so, so that the paths see a unit
// stride where they can.
Operand normalised(Operand x, std::int64_t rows, std::int64_t cols) {
  if (cols <= 1) x.col_stride = 1;
  if (rows <= 1 && x.col_stride != 1) x.row_stride = 1;
  return x;
}

const float* widened_bias(const Args& args) {
  if (args.bias == nullptr) return nullptr;
  if (args.bias_dtype == DType::kF32) return static_cast<const float*>(args.bias);
  float* wide = scratch().bias.reserve_as<float>(args.n);
  const bf16* narrow = static_cast<const bf16*>(args.bias);
  for (std::int64_t j = 0; j < args.n; ++j) wide[j] = static_cast<float>(narrow[j]);
  return wide;
}

// C^T = B^T A^T
Product swapped(const Product& p) {
  Product q = p;
  q.args.m = p.args.n;
  q.args.n = p.args.m;
  q.args.a = {p.args.b.data, p.args.b.dtype, p.args.b.col_stride, p.args.b.row_stride};
  q.args.b = {p.args.a.data, p.args.a.dtype, p.args.a.col_stride, p.args.a.row_stride};
  q.transposed_c = true;
  return q;
}

}  // namespace

void run_tasks(const Product& p,
               ThreadPool& pool,
               std::int64_t num_tasks,
               FunctionRef<void(std::int64_t)> task) {
  const double products =
      static_cast<double>(p.args.m) * static_cast<double>(p.args.n) * static_cast<double>(p.args.k);
  if (products < kSerialProducts) {
    for (std::int64_t i = 0; i < num_tasks; ++i) task(i);
  } else {
    pool.run(num_tasks, [&task](std::int64_t i, int) { task(i); });
  }
}

void finish(const Product& p,
            std::int64_t i,
            std::int64_t num_rows,
            std::int64_t j,
            std::int64_t num_cols,
            const float* sums,
            std::int64_t ld) {
  const Args& args = p.args;
  const bool narrow = args.c_dtype == DType::kBF16;
  if (!p.transposed_c) {
    char* c = static_cast<char*>(args.c) + (i * args.ldc + j) * (narrow ? 2 : 4);
    p.tile->finish({sums, ld, num_rows, num_cols, c, args.ldc, narrow, args.alpha, args.accumulate,
                    p.bias == nullptr ? nullptr : p.bias + j});
    return;
  }
  for (std::int64_t col = 0; col < num_cols; ++col) {
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const std::int64_t at = (j + col) * args.ldc + i + row;
      float value = args.alpha * sums[row * ld + col];
      if (p.bias != nullptr) value += p.bias[i + row];
      if (narrow) {
        bf16* c = static_cast<bf16*>(args.c) + at;
        *c = bf16(args.accumulate ? value + static_cast<float>(*c) : value);
      } else {
        float* c = static_cast<float*>(args.c) + at;
        *c = args.accumulate ? value + *c : value;
      }
    }
  }
}

void run(const Args& args, ThreadPool& pool) {
  validate(args);
  if (args.m == 0 || args.n == 0) return;
  Product p;
  p.args = args;
  p.args.a = normalised(args.a, args.m, args.k);
  p.bias = widened_bias(args);
  if (args.packed_b != nullptr) {
    p.tile = &args.packed_b->tile_with(args.a.dtype);
    return run_packed(p, pool);
  }
  p.args.b = normalised(args.b, args.k, args.n);
  p.tile = &cpu::tile_for(active_isa(), args.a.dtype, args.b.dtype);
  const bool rows_along_k = p.args.a.col_stride == 1 && p.args.b.row_stride == 1;
  // Not for few columns: with many rows the sums stay in the order of k, as MKL's are, or the
  // rounding of another order grows through a deep f32 model past what golden data allow.
  if (rows_along_k && args.m <= kDotRows && args.k >= kMinDotK) {
    return run_dot(p, pool);
  }
  if (p.args.a.col_stride != 1 && args.n <= kSwapColumns && args.n < args.m) {
    return run_packed(swapped(p), pool);
  }
  run_packed(p, pool);
}

}  // namespace moesmith::kernels::gemm
