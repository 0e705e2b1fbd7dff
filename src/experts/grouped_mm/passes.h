// SPDX-License-Identifier: Apache-2.0
// grouped_mm's passes for T, the compute dtype: float or bf16.
#pragma once

#include "core/thread_pool.h"
#include "experts/grouped_mm/workspace.h"
#include "moesmith/experts.h"

namespace moesmith::experts::grouped_mm {

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);

// Second half of backward: gradients that are sums over an expert's rows, from what the first half
// left in `work`. `saved.h` is h by rows wherever it was kept.
template <class T>
void sum_over_rows(const ExpertsRequest& request,
                   const BackwardArgs& args,
                   const BackwardWork<T>& work,
                   const SavedState& saved,
                   ThreadPool& pool);

}  // namespace moesmith::experts::grouped_mm
