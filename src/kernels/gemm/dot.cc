// SPDX-License-Identifier: Apache-2.0
// Few rows or few columns, both operands contiguous along k: each element of the larger operand is
// read once, straight from where it lies (a weight in its memory map, when decoding).
#include "kernels/gemm/product.h"
#include "kernels/gemm/scratch.h"

namespace moesmith::kernels::gemm {

void run_dot(const Product& p, ThreadPool& pool) {
  constexpr std::int64_t kBlock = 32;  // rows and columns of C per task: 4 KiB of sums
  const Args& args = p.args;
  const std::int64_t num_row_blocks = ceil_div(args.m, kBlock);
  const std::int64_t num_col_blocks = ceil_div(args.n, kBlock);
  run_tasks(p, pool, num_row_blocks * num_col_blocks, [&](std::int64_t task) {
    const std::int64_t i = task / num_col_blocks * kBlock, j = task % num_col_blocks * kBlock;
    const std::int64_t num_rows = std::min(kBlock, args.m - i);
    const std::int64_t num_cols = std::min(kBlock, args.n - j);
    float sums[kBlock * kBlock];
    p.tile->dot({element(args.a, i, 0), element(args.b, 0, j), args.a.row_stride, args.b.col_stride,
                 args.a.dtype == DType::kBF16, args.b.dtype == DType::kBF16, num_rows, num_cols,
                 args.k, sums, kBlock});
    finish(p, i, num_rows, j, num_cols, sums, kBlock);
  });
}

}  // namespace moesmith::kernels::gemm
