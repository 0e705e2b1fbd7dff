// SPDX-License-Identifier: Apache-2.0
// eager on a GPU: a loop over experts on cuBLAS. Each call reads the experts' rows back once and
// waits for them, so no CUDA graph can hold it.
#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "core/text.h"
#include "cuda/cublas.h"
#include "cuda/launch.h"
#include "experts/cuda/limits.h"
#include "experts/cuda/unfused.h"
#include "experts/implementation.h"

namespace moesmith::experts::on_cuda {
namespace {

namespace gpu = kernels::gpu;

constexpr int kMostDevices = 64;

// One handle a device, and one call at a time on it. Never destroyed: at the end of the process the
// driver may be gone first.
struct Handle {
  std::mutex busy;
  std::unique_ptr<cuda::Cublas> cublas;
};
Handle& handle_of(int device) {
  static auto* const handles = new std::array<Handle, kMostDevices>;
  return handles->at(static_cast<std::size_t>(device));
}

const void* advance(const void* data, std::int64_t bytes) {
  return static_cast<const char*>(data) + bytes;
}

class CublasProducts final : public GroupedProducts {
 public:
  explicit CublasProducts(const ExpertsRequest& request)
      : f32_(request.compute_dtype == DType::kF32), size_(dtype_size(request.compute_dtype)) {}

  void carve(Carver&, const ExpertsRequest&) override {}

  void begin(const gpu::Rows& rows, const CudaStream& stream) override {
    Handle& handle = handle_of(stream.device);
    lock_ = std::unique_lock(handle.busy);
    if (handle.cublas == nullptr) handle.cublas = std::make_unique<cuda::Cublas>();
    cublas_ = handle.cublas.get();
    stream_ = stream.stream;
    offsets_.resize(static_cast<std::size_t>(rows.num_experts) + 1);
    cuda::copy_to_host(offsets_.data(), rows.offsets,
                       static_cast<std::int64_t>(offsets_.size() * sizeof(int)), stream_);
  }

  void run(const ByMatrix& p) override {
    for (std::size_t e = 0; e + 1 < offsets_.size(); ++e) {
      const std::int64_t first = offsets_[e];
      const auto expert = static_cast<std::int64_t>(e);
      cuda::DenseProduct one;
      one.m = offsets_[e + 1] - first, one.n = p.n, one.k = p.k;
      one.a = advance(p.a, first * p.a_stride * size_), one.a_stride = p.a_stride;
      one.b = p.b.table != nullptr ? p.b_host[e]
                                   : advance(p.b.data, expert * p.b.expert_stride * size_);
      one.b_stride = p.b.stride, one.b_transposed = p.b.k_major;
      one.c = p.sums + first * p.stride, one.c_stride = p.stride;
      one.is_f32 = f32_, one.c_is_f32 = true, one.accumulate = p.accumulate;
      cublas_->run(one, stream_);
    }
  }

  void run(const ByRows& p) override {
    const std::int64_t out_bytes = p.m * p.n * (p.out_is_f32 ? 4 : 2);
    for (std::size_t e = 0; e + 1 < offsets_.size(); ++e) {
      const std::int64_t first = offsets_[e], num_rows = offsets_[e + 1] - first;
      if (num_rows == 0) continue;
      cuda::DenseProduct one;
      one.m = p.m, one.n = p.n, one.k = num_rows;
      one.a = advance(p.left, first * p.m * size_), one.a_stride = p.m, one.a_transposed = true;
      one.b = advance(p.right, first * p.n * size_), one.b_stride = p.n;
      one.c = static_cast<char*>(p.out) + static_cast<std::int64_t>(e) * out_bytes;
      one.c_stride = p.n;
      one.is_f32 = f32_, one.c_is_f32 = p.out_is_f32, one.accumulate = p.accumulate;
      cublas_->run(one, stream_);
    }
  }

 private:
  bool f32_;
  std::int64_t size_;
  std::unique_lock<std::mutex> lock_;
  const cuda::Cublas* cublas_ = nullptr;
  void* stream_ = nullptr;
  std::vector<int> offsets_;
};

Refusal refuses(const ExpertsRequest& request) {
  if (const Refusal why = beyond_common_limits(request)) return why;
  if (const Refusal why = mixes_dtypes(request)) return why;
  if (request.cuda_device >= kMostDevices) {
    return str("takes CUDA devices below ", kMostDevices, ", got ", request.cuda_device);
  }
  if (!cuda::why_no_cublas().empty()) return str("needs cuBLAS: ", cuda::why_no_cublas());
  return std::nullopt;
}

std::string describe(const ExpertsRequest& request) {
  return str("a loop over experts on cuBLAS", on_device(request),
             ", waits for the device once a call");
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens) {
  CublasProducts products(request);
  return unfused_sizes(request, num_tokens, products);
}

void forward(const ExpertsRequest& request, const ForwardArgs& args, const CudaStream& stream) {
  cuda::refuse_capture("eager", stream.stream);
  CublasProducts products(request);
  unfused_forward(request, args, stream, products);
}

void backward(const ExpertsRequest& request, const BackwardArgs& args, const CudaStream& stream) {
  cuda::refuse_capture("eager", stream.stream);
  CublasProducts products(request);
  unfused_backward(request, args, stream, products);
}

}  // namespace

const CudaImplementation kEager = {.refuses = refuses,
                                   .describe = describe,
                                   .sizes = sizes,
                                   .forward = forward,
                                   .backward = backward};

}  // namespace moesmith::experts::on_cuda
