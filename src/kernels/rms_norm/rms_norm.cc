// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "core/checked.h"
#include "kernels/rows/rows.h"

namespace moesmith::kernels::rms_norm {
namespace {
// Tokens whose weight gradients are summed into one partial row. A constant: the order of the sum
// must not depend on the number of threads.
constexpr std::int64_t kChunk = 64;
}  // namespace

template <class T>
void forward(const Args<T>& args, ThreadPool& pool) {
  const auto& op = rows::ops<T>();
  pool.for_chunks(args.num_tokens, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t h = 0; h < args.heads; ++h) {
        const T* x = args.x + t * args.x_stride + h * args.dim;
        const float mean = op.sum_squares(x, args.dim) / static_cast<float>(args.dim);
        const float rstd = 1.0f / std::sqrt(mean + args.eps);
        args.rstd[t * args.heads + h] = rstd;
        op.scale_by(args.y + t * args.y_stride + h * args.dim, x, args.weight, rstd, args.dim);
      }
    }
  });
}

std::int64_t partial_floats(std::int64_t num_tokens, std::int64_t dim) {
  return ceil_div(num_tokens, kChunk) * dim;
}

template <class T>
void backward(const BackwardArgs<T>& args, ThreadPool& pool) {
  const auto& op = rows::ops<T>();
  const std::int64_t dim = args.dim;
  pool.for_chunks(args.num_tokens, kChunk, [&](std::int64_t begin, std::int64_t end) {
    float* partial = nullptr;
    if (args.d_weight != nullptr) {
      partial = args.partial_scratch + begin / kChunk * dim;
      std::fill(partial, partial + dim, 0.0f);
    }
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t h = 0; h < args.heads; ++h) {
        const T* x = args.x + t * args.x_stride + h * dim;
        const float* dy = args.dy + t * args.dy_stride + h * dim;
        const std::int64_t at = t * args.dx_stride + h * dim;
        const float rstd = args.rstd[t * args.heads + h];
        // Before dx is written: it may share storage with nothing of x, but `add` may be dx.
        if (partial != nullptr) op.norm_weight_grad(partial, dy, x, rstd, dim);
        const float c = op.dot3(dy, args.weight, x, dim) * rstd * rstd / static_cast<float>(dim);
        op.norm_backward(args.dx + at, args.add != nullptr ? args.add + at : nullptr, dy,
                         args.weight, x, rstd, c, dim);
      }
    }
  });
  if (args.d_weight == nullptr) return;
  const auto& f32 = rows::ops<float>();
  for (std::int64_t chunk = 0; chunk < ceil_div(args.num_tokens, kChunk); ++chunk) {
    f32.axpy(args.d_weight, args.partial_scratch + chunk * dim, 1.0f, dim);
  }
}

template void forward<float>(const Args<float>&, ThreadPool&);
template void forward<bf16>(const Args<bf16>&, ThreadPool&);
template void backward<float>(const BackwardArgs<float>&, ThreadPool&);
template void backward<bf16>(const BackwardArgs<bf16>&, ThreadPool&);

}  // namespace moesmith::kernels::rms_norm
