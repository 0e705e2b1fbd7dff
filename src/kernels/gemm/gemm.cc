// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.h"

namespace moesmith::kernels::gemm {

void run(const Args& args, ThreadPool& pool) {
  constexpr std::int64_t kRows = 8;
  pool.for_chunks(args.m, kRows, [&](std::int64_t begin, std::int64_t end) {
    Args part = args;
    part.m = end - begin;
    part.a.data = static_cast<const char*>(args.a.data) +
                  begin * args.a.row_stride * dtype_size(args.a.dtype);
    part.c = static_cast<char*>(args.c) + begin * args.ldc * dtype_size(args.c_dtype);
    run_reference(part);
  });
}

}  // namespace moesmith::kernels::gemm
