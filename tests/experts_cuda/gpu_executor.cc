// SPDX-License-Identifier: Apache-2.0
#include "gpu_executor.h"

#include <cuda_runtime_api.h>

#include <functional>
#include <stdexcept>

#include "cuda/device.h"

namespace moesmith::experts::testing {
namespace {

constexpr std::size_t kBand = 256;
constexpr int kPattern = 0xa5;

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
  }
}

}  // namespace

DeviceBuffer::DeviceBuffer(std::size_t bytes, const void* like)
    : size_(bytes), total_(bytes + 2 * kBand + 64) {
  check(cudaMalloc(reinterpret_cast<void**>(&memory_), total_), "cudaMalloc");
  check(cudaMemset(memory_, kPattern, total_), "cudaMemset");
  start_ = memory_ + kBand + reinterpret_cast<std::uintptr_t>(like) % 64;
}

DeviceBuffer::~DeviceBuffer() { static_cast<void>(cudaFree(memory_)); }

void DeviceBuffer::upload(const void* from) const {
  if (size_ > 0) check(cudaMemcpy(start_, from, size_, cudaMemcpyHostToDevice), "upload");
}
void DeviceBuffer::download(void* to) const {
  if (size_ > 0) check(cudaMemcpy(to, start_, size_, cudaMemcpyDeviceToHost), "download");
}
void DeviceBuffer::fill(int byte) const { check(cudaMemset(start_, byte, size_), "cudaMemset"); }

bool DeviceBuffer::intact() const {
  std::vector<std::byte> all(total_);
  check(cudaMemcpy(all.data(), memory_, total_, cudaMemcpyDeviceToHost), "download");
  const auto begin = static_cast<std::size_t>(start_ - memory_);
  for (std::size_t i = 0; i < total_; ++i) {
    if ((i < begin || i >= begin + size_) && all[i] != static_cast<std::byte>(kPattern)) {
      return false;
    }
  }
  return true;
}

std::string why_no_gpu() { return cuda::list_devices().why_empty; }

// The buffers of one call on the device.
struct GpuExecutor::Call {
  const ExpertsRequest& r;
  std::int64_t num_tokens;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  struct Output {
    const DeviceBuffer* buffer;
    void* host;
  };
  std::vector<Output> outputs;
  std::vector<std::vector<std::byte>> before;  // of outputs, for a second run on the same buffers
  std::vector<const void*> gate_up, up, down;

  DeviceBuffer& make(std::size_t bytes, const void* like) {
    buffers.push_back(std::make_unique<DeviceBuffer>(bytes, like));
    return *buffers.back();
  }
  const void* in(const void* host, std::int64_t count, DType dtype) {
    if (host == nullptr) return nullptr;
    DeviceBuffer& buffer = make(static_cast<std::size_t>(count * dtype_size(dtype)), host);
    buffer.upload(host);
    return buffer.data();
  }
  void* out(void* host, std::int64_t count, DType dtype) {
    if (host == nullptr) return nullptr;
    DeviceBuffer& buffer = make(static_cast<std::size_t>(count * dtype_size(dtype)), host);
    buffer.upload(host);
    outputs.push_back({&buffer, host});
    return buffer.data();
  }
  std::span<std::byte> poisoned(std::span<std::byte> host, bool keep) {
    DeviceBuffer& buffer = make(host.size(), host.data());
    buffer.fill(0xff);
    if (keep) outputs.push_back({&buffer, host.data()});
    return {buffer.data(), buffer.size()};
  }

  ProjectionWeights weights(const ProjectionWeights& host,
                            std::vector<const void*>& base,
                            std::int64_t out_features,
                            std::int64_t in_features) {
    const std::int64_t rows = r.transposed ? in_features : out_features;
    const std::int64_t cols = r.transposed ? out_features : in_features;
    for (const void* one : host.base) {
      base.push_back(in(one, (rows - 1) * host.row_stride + cols, r.weight_dtype));
    }
    return {base, host.row_stride};
  }

  ExpertsInputs inputs(const ExpertsInputs& host) {
    const std::int64_t slots = num_tokens * r.top_k, width = r.gate_up_width();
    const bool separate = r.activation.gated && r.gate_up_layout == GateUpLayout::kSeparate;
    ExpertsInputs to = host;
    to.hidden = in(host.hidden, num_tokens * r.hidden, r.compute_dtype);
    to.top_k_index = in(host.top_k_index, slots, r.index_dtype);
    to.top_k_weights = in(host.top_k_weights, slots, r.route_weights_dtype);
    to.weights.gate_up =
        weights(host.weights.gate_up, gate_up, separate ? r.inter : width, r.hidden);
    if (separate) to.weights.up = weights(host.weights.up, up, r.inter, r.hidden);
    to.weights.down = weights(host.weights.down, down, r.hidden, r.inter);
    if (r.gate_up_bias) {
      to.weights.gate_up_bias =
          in(host.weights.gate_up_bias, r.num_experts * width, r.weight_dtype);
    }
    if (r.down_bias) {
      to.weights.down_bias = in(host.weights.down_bias, r.num_experts * r.hidden, r.weight_dtype);
    }
    const auto factors = [&](const LoraFactors& from, const LoraSpec& lora, std::int64_t n_in,
                             std::int64_t n_out) {
      const std::int64_t rank = lora.lora_rank * r.num_experts;
      if (rank == 0) return LoraFactors{};
      return LoraFactors{in(from.a, rank * n_in, lora.dtype), in(from.b, rank * n_out, lora.dtype)};
    };
    to.gate_up_lora = factors(host.gate_up_lora, r.gate_up_lora, r.hidden, width);
    to.down_lora = factors(host.down_lora, r.down_lora, r.inter, r.hidden);
    return to;
  }

  ExpertsGradients gradients(const ExpertsGradients& host) {
    const WantedGradients& w = r.wanted;
    const std::int64_t e = r.num_experts, width = r.gate_up_width();
    const std::int64_t r_1 = r.gate_up_lora.lora_rank * e, r_2 = r.down_lora.lora_rank * e;
    return {out(host.hidden, num_tokens * r.hidden, w.hidden.dtype),
            out(host.top_k_weights, num_tokens * r.top_k, w.top_k_weights.dtype),
            out(host.gate_up, e * width * r.hidden, w.gate_up.dtype),
            out(host.down, e * r.hidden * r.inter, w.down.dtype),
            out(host.gate_up_bias, e * width, w.gate_up_bias.dtype),
            out(host.down_bias, e * r.hidden, w.down_bias.dtype),
            out(host.gate_up_a, r_1 * r.hidden, w.gate_up_a.dtype),
            out(host.gate_up_b, r_1 * width, w.gate_up_b.dtype),
            out(host.down_a, r_2 * r.inter, w.down_a.dtype),
            out(host.down_b, r_2 * r.hidden, w.down_b.dtype)};
  }

  // Launches `work` once, or captures it and replays it twice from the same state.
  void run(How how, const CudaStream& to, const std::function<void()>& work) {
    const auto stream = static_cast<cudaStream_t>(to.stream);
    check(cudaDeviceSynchronize(), "uploads");
    if (how == How::kLaunch) {
      work();
    } else {
      cudaGraph_t graph;
      cudaGraphExec_t executable;
      for (const Output& output : outputs) {
        before.emplace_back(output.buffer->size());
        output.buffer->download(before.back().data());
      }
      check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
      try {
        work();
      } catch (...) {  // the stream must not stay captured
        static_cast<void>(cudaStreamEndCapture(stream, &graph));
        static_cast<void>(cudaGetLastError());
        throw;
      }
      check(cudaStreamEndCapture(stream, &graph), "end capture");
      check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
      check(cudaGraphLaunch(executable, stream), "replay");
      check(cudaStreamSynchronize(stream), "replay");
      for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].buffer->upload(before[i].data());
      check(cudaDeviceSynchronize(), "uploads");
      check(cudaGraphLaunch(executable, stream), "second replay");
      check(cudaStreamSynchronize(stream), "second replay");
      check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
      check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    }
    check(cudaStreamSynchronize(stream), "the call");
    check(cudaGetLastError(), "the call");
    for (const Output& output : outputs) output.buffer->download(output.host);
    for (const auto& buffer : buffers) {
      if (!buffer->intact()) throw std::runtime_error("a guard band on the device was written");
    }
  }
};

GpuExecutor::GpuExecutor(How how) : how_(how) {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  stream_.stream = stream;
}
GpuExecutor::~GpuExecutor() {
  static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(stream_.stream)));
}

ExpertsSizes GpuExecutor::sizes(const ExpertsPlan& plan, std::int64_t num_tokens) {
  return plan.sizes(num_tokens);
}

void GpuExecutor::forward(const ExpertsPlan& plan, const ForwardArgs& args) {
  const ExpertsRequest& r = plan.request();
  Call call{r, args.inputs.num_tokens, {}, {}, {}, {}, {}, {}};
  ForwardArgs to = args;
  to.inputs = call.inputs(args.inputs);
  to.output = call.out(args.output, args.inputs.num_tokens * r.hidden, r.compute_dtype);
  to.saved = call.poisoned(args.saved, true);
  to.scratch = call.poisoned(args.scratch, false);
  call.run(how_, stream_, [&] { plan.forward(to, stream_); });
}

void GpuExecutor::backward(const ExpertsPlan& plan, const BackwardArgs& args) {
  const ExpertsRequest& r = plan.request();
  Call call{r, args.inputs.num_tokens, {}, {}, {}, {}, {}, {}};
  BackwardArgs to = args;
  to.inputs = call.inputs(args.inputs);
  to.d_output = call.in(args.d_output, args.inputs.num_tokens * r.hidden, r.d_output_dtype);
  const DeviceBuffer& saved = call.make(args.saved.size(), args.saved.data());
  saved.upload(args.saved.data());
  to.saved = {saved.data(), saved.size()};
  to.scratch = call.poisoned(args.scratch, false);
  to.gradients = call.gradients(args.gradients);
  call.run(how_, stream_, [&] { plan.backward(to, stream_); });
}

}  // namespace moesmith::experts::testing
