// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemv/gemv.h"

#include "core/cpu_features.h"
#include "kernels/gemv/kernels.h"
#include "moesmith/error.h"

namespace moesmith::kernels::gemv {
namespace {

const Kernels& active_kernels() {
#if defined(__x86_64__)
  if (active_isa() >= IsaLevel::kAvx512Bf16) return avx512_bf16::kernels();
  if (active_isa() >= IsaLevel::kAvx512) return avx512::kernels();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::kernels();
#endif
  return portable::kernels();
}

template <class W>
Call<W> call_of(const Args& args, std::int64_t w_stride) {
  return {args.rows, args.narrow_rows, args.num_rows, static_cast<const W*>(args.b.data),
          w_stride,  args.n,           args.k,        args.out,
          args.ld,   args.add};
}

}  // namespace

void run(const Args& args) {
  const Kernels& kernels = active_kernels();
  const bool narrow = args.b.dtype == DType::kBF16;
  if (args.b.row_stride == 1) {
    if (narrow) return kernels.dot_bf16(call_of<bf16>(args, args.b.col_stride));
    return kernels.dot_f32(call_of<float>(args, args.b.col_stride));
  }
  if (args.b.col_stride != 1) {
    throw Error(ErrorCode::kInternal, "gemv: one stride of B must be 1");
  }
  if (narrow) return kernels.sum_bf16(call_of<bf16>(args, args.b.row_stride));
  kernels.sum_f32(call_of<float>(args, args.b.row_stride));
}

}  // namespace moesmith::kernels::gemv
