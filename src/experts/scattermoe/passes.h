// SPDX-License-Identifier: Apache-2.0
// scattermoe's passes for T, the compute dtype: float or bf16.
#pragma once

#include "experts/scattermoe/products.h"

namespace moesmith::experts::scattermoe {

using WorkerOf = FunctionRef<WorkerScratch(int)>;

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);

// h [rows, 2I] = x W1^T + u1 B1^T + b1 and a [rows, I] = act(h); either may be null.
template <class T>
void pre_activation(
    const Pass<T>& pass, const T* u_1, T* h, T* a, const WorkerOf& worker_of, ThreadPool& pool);

// The gradients of weights, factors and biases: sums over an expert's rows of what the first half
// of backward left in `work`.
template <class T>
void sum_over_rows(const Pass<T>& pass,
                   const BackwardArgs& args,
                   const BackwardWork<T>& work,
                   const SavedState& saved,
                   const T* dy,
                   const WorkerOf& worker_of,
                   ThreadPool& pool);

}  // namespace moesmith::experts::scattermoe
