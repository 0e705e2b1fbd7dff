// SPDX-License-Identifier: Apache-2.0
// The C functions over ExpertsPlan: handles, and the edge where exceptions become statuses.
#include "moesmith/c_api.h"

#include <exception>
#include <memory>
#include <new>
#include <string>

#include "c_api/convert.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "moesmith/error.h"
#include "moesmith/experts.h"

struct moesmith_plan {
  moesmith::experts::ExpertsPlan plan;
  std::string implementation, text;
};

struct moesmith_pool {
  moesmith::ThreadPool pool;
};

namespace moesmith::c_api {
namespace {

thread_local std::string last_error;

moesmith_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidInput:
      return MOESMITH_INVALID_INPUT;
    case ErrorCode::kNotFound:
      return MOESMITH_NOT_FOUND;
    case ErrorCode::kUnsupported:
      return MOESMITH_UNSUPPORTED;
    case ErrorCode::kOutOfMemory:
      return MOESMITH_OUT_OF_MEMORY;
    case ErrorCode::kIo:
      return MOESMITH_IO;
    case ErrorCode::kInterrupted:
      return MOESMITH_INTERRUPTED;
    case ErrorCode::kInternal:
      return MOESMITH_INTERNAL;
  }
  return MOESMITH_INTERNAL;
}

// The edge: no exception leaves the library.
template <class Body>
moesmith_status guarded(const Body& body) {
  try {
    body();
    return MOESMITH_OK;
  } catch (const Error& error) {
    last_error = error.what();
    return status_of(error.code());
  } catch (const std::bad_alloc&) {
    last_error = "moesmith: out of memory";
    return MOESMITH_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    last_error = error.what();
    return MOESMITH_INTERNAL;
  }
}

template <class T>
const T& given(const T* handle, const char* what) {
  if (handle == nullptr) {
    throw Error(ErrorCode::kInvalidInput, str("moesmith: ", what, ": got NULL, expected one"));
  }
  return *handle;
}

template <class T>
T& given(T* handle, const char* what) {
  return const_cast<T&>(given(static_cast<const T*>(handle), what));
}

// That something is there is the plan's own check; its size only this interface knows.
void check_packed(const experts::ExpertsPlan& plan, const moesmith_inputs& inputs) {
  const std::int64_t needed = plan.packed_bytes();
  if (inputs.packed == nullptr || inputs.packed_bytes >= needed) return;
  throw Error(ErrorCode::kInvalidInput, str("moesmith: packed_bytes: got ", inputs.packed_bytes,
                                            ", expected ", needed, " or more"));
}

}  // namespace
}  // namespace moesmith::c_api

using namespace moesmith;         // NOLINT: the rest of the file is C
using namespace moesmith::c_api;  // NOLINT

int32_t moesmith_abi_version() { return MOESMITH_ABI_VERSION; }
const char* moesmith_version() { return MOESMITH_VERSION; }
int32_t moesmith_has_cuda() { return MOESMITH_BUILT_WITH_CUDA; }
const char* moesmith_last_error() { return last_error.c_str(); }

moesmith_status moesmith_pool_create(int32_t num_threads, moesmith_pool** pool) {
  return guarded([&] { given(pool, "pool") = new moesmith_pool{ThreadPool(num_threads)}; });
}

void moesmith_pool_destroy(moesmith_pool* pool) { delete pool; }

int32_t moesmith_pool_num_threads(const moesmith_pool* pool) {
  return pool == nullptr ? 0 : pool->pool.num_threads();
}

moesmith_status moesmith_plan_create(const moesmith_request* request, moesmith_plan** plan) {
  return guarded([&] {
    moesmith_plan*& result = given(plan, "plan");
    auto made = experts::plan_experts(to_request(given(request, "request")));
    std::string name(made.implementation()), text = made.to_string();
    result = new moesmith_plan{std::move(made), std::move(name), std::move(text)};
  });
}

void moesmith_plan_destroy(moesmith_plan* plan) { delete plan; }

const char* moesmith_plan_implementation(const moesmith_plan* plan) {
  return plan == nullptr ? "" : plan->implementation.c_str();
}

const char* moesmith_plan_text(const moesmith_plan* plan) {
  return plan == nullptr ? "" : plan->text.c_str();
}

moesmith_status moesmith_plan_sizes(const moesmith_plan* plan,
                                    int64_t num_tokens,
                                    int32_t num_threads,
                                    moesmith_sizes* sizes) {
  return guarded([&] {
    moesmith_sizes& result = given(sizes, "sizes");
    check_struct("moesmith_sizes", result.struct_bytes, sizeof result);
    const experts::ExpertsSizes s = given(plan, "plan").plan.sizes(num_tokens, num_threads);
    result.saved_bytes = s.saved_bytes;
    result.forward_scratch_bytes = s.forward_scratch_bytes;
    result.backward_scratch_bytes = s.backward_scratch_bytes;
  });
}

int64_t moesmith_plan_packed_bytes(const moesmith_plan* plan) {
  return plan == nullptr ? 0 : plan->plan.packed_bytes();
}

moesmith_status moesmith_pack(const moesmith_plan* plan,
                              const moesmith_pack_args* args,
                              moesmith_pool* pool) {
  return guarded([&] {
    const auto& p = given(plan, "plan").plan;
    const PackCall call(p.request(), given(args, "args"));
    p.pack(call.weights, call.packed, given(pool, "pool").pool);
  });
}

moesmith_status moesmith_forward(const moesmith_plan* plan,
                                 const moesmith_forward_args* args,
                                 moesmith_pool* pool) {
  return guarded([&] {
    const auto& p = given(plan, "plan").plan;
    check_packed(p, given(args, "args").inputs);
    const ForwardCall call(p.request(), *args);
    p.forward(call.args, given(pool, "pool").pool);
  });
}

moesmith_status moesmith_backward(const moesmith_plan* plan,
                                  const moesmith_backward_args* args,
                                  moesmith_pool* pool) {
  return guarded([&] {
    const auto& p = given(plan, "plan").plan;
    check_packed(p, given(args, "args").inputs);
    const BackwardCall call(p.request(), *args);
    p.backward(call.args, given(pool, "pool").pool);
  });
}

moesmith_status moesmith_forward_cuda(const moesmith_plan* plan,
                                      const moesmith_forward_args* args,
                                      int32_t cuda_device,
                                      void* stream) {
  return guarded([&] {
    const auto& p = given(plan, "plan").plan;
    check_packed(p, given(args, "args").inputs);
    const ForwardCall call(p.request(), *args);
    p.forward(call.args, experts::CudaStream{.device = cuda_device, .stream = stream});
  });
}

moesmith_status moesmith_backward_cuda(const moesmith_plan* plan,
                                       const moesmith_backward_args* args,
                                       int32_t cuda_device,
                                       void* stream) {
  return guarded([&] {
    const auto& p = given(plan, "plan").plan;
    check_packed(p, given(args, "args").inputs);
    const BackwardCall call(p.request(), *args);
    p.backward(call.args, experts::CudaStream{.device = cuda_device, .stream = stream});
  });
}
