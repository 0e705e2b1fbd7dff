// SPDX-License-Identifier: Apache-2.0
// The row of the table: takes whatever the contract allows on the CPU.
#include "experts/eager/eager.h"

#include "experts/implementation.h"

namespace moesmith::experts::eager {
namespace {

// The storage and summing types of a request, as template arguments.
template <class Body>
void with_types(const ExpertsRequest& request, const Body& body) {
  if (request.compute_dtype == DType::kF64) return body.template operator()<double, double>();
  if (request.compute_dtype == DType::kBF16) {
    if (request.double_sums) return body.template operator()<bf16, double>();
    return body.template operator()<bf16, float>();
  }
  if (request.double_sums) return body.template operator()<float, double>();
  return body.template operator()<float, float>();
}

}  // namespace

template <class Acc>
Workspace<Acc> Workspace<Acc>::carve(Carver& carver,
                                     const ExpertsRequest& request,
                                     std::int64_t num_tokens,
                                     int num_threads,
                                     bool backward) {
  Workspace work;
  work.index = carve_routing(carver, request, num_tokens);
  if (!backward || request.wanted.hidden.wanted()) {
    work.rows =
        carver.bytes(checked_mul(checked_mul(row_capacity(request, num_tokens), request.hidden),
                                 dtype_size(request.compute_dtype)));
  }
  Carver measure;
  Expert<Acc>::carve(measure, request, backward);
  work.worker_bytes = round_up(measure.used(), Carver::kAlignment);
  work.workers = static_cast<std::byte*>(
      carver.bytes(checked_mul(work.worker_bytes, static_cast<std::int64_t>(num_threads))));
  return work;
}

template <class Acc>
Expert<Acc> Workspace<Acc>::worker(const ExpertsRequest& request, int number, bool backward) const {
  Carver carver(workers + number * worker_bytes);
  return Expert<Acc>::carve(carver, request, backward);
}

template struct Workspace<float>;
template struct Workspace<double>;

Refusal refuses(const ExpertsRequest&) { return std::nullopt; }

std::string describe(const ExpertsRequest& request) {
  return request.double_sums || request.compute_dtype == DType::kF64
             ? "plain loops over experts, sums in double"
             : "plain loops over experts, the readable reference";
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads) {
  ExpertsSizes result;
  const bool any = request.wanted.any();
  with_types(request, [&]<class T, class Acc>() {
    Carver forward, backward;
    Workspace<Acc>::carve(forward, request, num_tokens, num_threads, false);
    result.forward_scratch_bytes = forward.used();
    if (!any) return;
    Workspace<Acc>::carve(backward, request, num_tokens, num_threads, true);
    result.backward_scratch_bytes = backward.used();
    result.saved_bytes = SavedState::bytes(request, row_capacity(request, num_tokens));
  });
  return result;
}

void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  with_types(request, [&]<class T, class Acc>() { run_forward<T, Acc>(request, args, pool); });
}

void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  with_types(request, [&]<class T, class Acc>() { run_backward<T, Acc>(request, args, pool); });
}

}  // namespace moesmith::experts::eager
