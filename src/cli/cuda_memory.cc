// SPDX-License-Identifier: Apache-2.0
#include "cli/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "cli/layer_case.h"
#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::cli {

void check_cuda(int code, const std::string& call) {
  const auto status = static_cast<cudaError_t>(code);
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw Error(status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
              str("bench: ", call, ": ", cudaGetErrorString(status)));
}

CudaMemory::~CudaMemory() {
  for (void* data : all_) static_cast<void>(cudaFree(data));
}

void* CudaMemory::bytes(std::int64_t count) {
  void* data = nullptr;
  check_cuda(cudaMalloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(count, 1))),
             str("cudaMalloc of ", count, " bytes"));
  all_.push_back(data);
  return data;
}

void* CudaMemory::random(std::int64_t count, DType dtype, double scale, std::uint64_t stream) {
  const Tensor drawn = random_tensor({std::min(count, random_period())}, dtype, scale, stream);
  const std::int64_t total = count * dtype_size(dtype);
  auto* const data = static_cast<char*>(bytes(total));
  check_cuda(cudaMemcpy(data, drawn.raw(), static_cast<std::size_t>(drawn.bytes()),
                        cudaMemcpyHostToDevice),
             "cudaMemcpy");
  for (std::int64_t done = drawn.bytes(); done < total; done *= 2) {
    const auto more = static_cast<std::size_t>(std::min(done, total - done));
    check_cuda(cudaMemcpy(data + done, data, more, cudaMemcpyDeviceToDevice), "cudaMemcpy");
  }
  return data;
}

void* CudaMemory::copy_of(const Tensor& tensor) {
  void* data = bytes(tensor.bytes());
  check_cuda(cudaMemcpy(data, tensor.raw(), static_cast<std::size_t>(tensor.bytes()),
                        cudaMemcpyHostToDevice),
             "cudaMemcpy");
  return data;
}

std::int64_t CudaMemory::free_bytes() {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(free);
}

struct CudaWork::Handles {
  cudaStream_t stream = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;

  ~Handles() {
    if (executable != nullptr) static_cast<void>(cudaGraphExecDestroy(executable));
    if (begin != nullptr) static_cast<void>(cudaEventDestroy(begin));
    if (end != nullptr) static_cast<void>(cudaEventDestroy(end));
  }
};

CudaWork::CudaWork(void* stream, std::function<void()> work)
    : work_(std::move(work)), handles_(std::make_unique<Handles>()) {
  Handles& h = *handles_;
  h.stream = static_cast<cudaStream_t>(stream);
  check_cuda(cudaEventCreate(&h.begin), "cudaEventCreate");
  check_cuda(cudaEventCreate(&h.end), "cudaEventCreate");
  work_();  // kernels are loaded, and raise their limits, outside the capture
  check_cuda(cudaStreamSynchronize(h.stream), "the first call");
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamBeginCapture(h.stream, cudaStreamCaptureModeThreadLocal), "capture");
  try {
    work_();
  } catch (const Error& error) {
    static_cast<void>(cudaStreamEndCapture(h.stream, &graph));
    static_cast<void>(cudaGetLastError());
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    if (error.code() != ErrorCode::kUnsupported) throw;
    return;  // it waits for the device
  }
  check_cuda(cudaStreamEndCapture(h.stream, &graph), "capture");
  check_cuda(cudaGraphInstantiate(&h.executable, graph, 0), "cudaGraphInstantiate");
  check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

CudaWork::~CudaWork() = default;

bool CudaWork::is_graph() const { return handles_->executable != nullptr; }

double CudaWork::milliseconds() const {
  const Handles& h = *handles_;
  check_cuda(cudaEventRecord(h.begin, h.stream), "cudaEventRecord");
  if (is_graph()) {
    check_cuda(cudaGraphLaunch(h.executable, h.stream), "cudaGraphLaunch");
  } else {
    work_();
  }
  check_cuda(cudaEventRecord(h.end, h.stream), "cudaEventRecord");
  check_cuda(cudaEventSynchronize(h.end), "the work that is timed");
  float ms = 0;
  check_cuda(cudaEventElapsedTime(&ms, h.begin, h.end), "cudaEventElapsedTime");
  return static_cast<double>(ms);
}

}  // namespace moesmith::cli
