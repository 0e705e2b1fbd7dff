// SPDX-License-Identifier: Apache-2.0
// y[t] = sum_k w[t,k] (act(x W1^T + b1 + LoRA) W2^T + b2 + LoRA), expert by expert.
#include "experts/eager/eager.h"

namespace moesmith::experts::eager {
namespace {

template <class T, class Acc>
void save(const Matrix<Acc>& from, std::int64_t padded_cols, void* saved, std::int64_t begin) {
  for (std::int64_t i = 0; i < from.rows; ++i) {
    T* row = static_cast<T*>(saved) + (begin + i) * padded_cols;
    for (std::int64_t j = 0; j < padded_cols; ++j) {
      store(row + j, j < from.cols ? from.row(i)[j] : Acc(0));
    }
  }
}

// Rows [begin, begin + n) of one expert, whose matrices `tile` holds.
template <class T, class Acc>
void forward_rows(const ExpertsRequest& request,
                  const ForwardArgs& args,
                  const Workspace<Acc>& work,
                  const SavedState& saved,
                  std::int64_t expert,
                  std::int64_t begin,
                  std::int64_t n,
                  const Expert<Acc>& tile) {
  up_projection<T>(request, args.inputs, work.index, expert, begin, n, tile);
  activate(request, n, tile);
  const Matrix<Acc> a = tile.a.head(n), u = tile.u_2.head(n), y = tile.y.head(n);
  u.clear();
  add_nt(u, a, tile.a_2);
  const Acc scale = static_cast<Acc>(request.down_lora.lora_scale);
  for (std::int64_t i = 0; i < n * u.cols; ++i) u.data[i] = rounded<T>(scale * u.data[i]);
  y.clear();
  add_nt(y, a, tile.w_2);
  add_nt(y, u, tile.b_2);
  for (std::int64_t i = 0; i < n; ++i) {
    T* row = static_cast<T*>(work.rows) + (begin + i) * request.hidden;
    for (std::int64_t j = 0; j < request.hidden; ++j) {
      Acc value = y.row(i)[j];
      if (request.down_bias) {
        value += static_cast<Acc>(element(args.inputs.weights.down_bias, request.weight_dtype,
                                          expert * request.hidden + j));
      }
      store(row + j, value);
    }
  }
  if (saved.h != nullptr) save<T>(tile.h.head(n), request.gate_up_width(), saved.h, begin);
  if (saved.u_1 != nullptr) {
    save<T>(tile.u_1.head(n), padded_lora_rank(request.gate_up_lora), saved.u_1, begin);
  }
  if (saved.u_2 != nullptr) save<T>(u, padded_lora_rank(request.down_lora), saved.u_2, begin);
}

}  // namespace

template <class T, class Acc>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  const std::int64_t num_tokens = args.inputs.num_tokens;
  Carver carver(args.scratch.data());
  Workspace<Acc> work =
      Workspace<Acc>::carve(carver, request, num_tokens, pool.num_threads(), false);
  build_routing(args.inputs, request.index_dtype, work.index);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens));

  pool.run(request.num_experts, [&](std::int64_t expert, int worker) {
    if (work.index.rows(expert) == 0) return;
    Expert<Acc> tile = work.worker(request, worker, false);
    tile.load(request, args.inputs, expert);
    const std::int64_t end = work.index.offsets[expert + 1];
    for (std::int64_t begin = work.index.offsets[expert]; begin < end; begin += kRows) {
      forward_rows<T>(request, args, work, saved, expert, begin, std::min(kRows, end - begin),
                      tile);
    }
  });

  T* output = static_cast<T*>(args.output);
  combine_rows<T, Acc>(request, args.inputs, work.index, static_cast<const T*>(work.rows), true,
                       pool, [&](std::int64_t token, const Acc* sums) {
                         for (std::int64_t j = 0; j < request.hidden; ++j) {
                           store(output + token * request.hidden + j, sums[j]);
                         }
                       });
}

template void run_forward<float, float>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
template void run_forward<float, double>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
template void run_forward<bf16, float>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
template void run_forward<bf16, double>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
template void run_forward<double, double>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::eager
