// SPDX-License-Identifier: Apache-2.0
// Runs a kCuda plan on host buffers: each is copied to device memory of exactly its size between
// guard bands, outputs and scratch begin as poison, results are copied back.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "problem.h"

namespace moesmith::experts::testing {

// Device memory with guard bands; throws std::runtime_error on any CUDA error.
class DeviceBuffer {
 public:
  // The start is aligned as `like` is, within 64 bytes.
  DeviceBuffer(std::size_t bytes, const void* like);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  std::byte* data() const { return start_; }
  std::size_t size() const { return size_; }
  void upload(const void* from) const;
  void download(void* to) const;
  void fill(int byte) const;
  bool intact() const;

 private:
  std::byte* memory_ = nullptr;
  std::byte* start_ = nullptr;
  std::size_t size_ = 0, total_ = 0;
};

class GpuExecutor : public Executor {
 public:
  enum class How { kLaunch, kGraph };  // straight into a stream, or captured and replayed twice
  explicit GpuExecutor(How how = How::kLaunch);
  ~GpuExecutor() override;

  ExpertsSizes sizes(const ExpertsPlan& plan, std::int64_t num_tokens) override;
  void forward(const ExpertsPlan& plan, const ForwardArgs& args) override;
  void backward(const ExpertsPlan& plan, const BackwardArgs& args) override;

 private:
  struct Call;
  How how_;
  CudaStream stream_;
};

// "" where a GPU can be used, else why not.
std::string why_no_gpu();

}  // namespace moesmith::experts::testing
