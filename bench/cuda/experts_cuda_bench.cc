// SPDX-License-Identifier: Apache-2.0
// The experts layer on a GPU beside a dense batched product of the same base FLOPs, both as CUDA
// graphs and in turns: one JSON line a case, milliseconds as median and 10th and 90th percentile.
//
//   experts_cuda_bench IMPLEMENTATION SHAPE|all TOKENS[,TOKENS...] forward|lora|full [RANK]
//   [REPEATS]
//   experts_cuda_bench IMPLEMENTATION paper 0 forward|lora|full [RANK] [REPEATS]
//
// Data are random; a layer's weights exceed the L2 cache, so every call reads them from memory.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cublas.h"
#include "cuda/device.h"
#include "device_random.h"
#include "moesmith/experts.h"

namespace moesmith::bench {
namespace {

using experts::GradMode;
using experts::GradSpec;

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
  }
}

struct Shape {
  const char* name;
  std::int64_t experts, top_k, hidden, inter;
  bool gpt_oss = false;
};
constexpr Shape kShapes[] = {
    {"qwen3_30b_a3b", 128, 8, 2048, 768},     {"olmoe_1b_7b", 64, 8, 2048, 1024},
    {"mixtral_8x7b", 8, 2, 4096, 14336},      {"qwen3_next_80b", 512, 10, 2048, 512},
    {"gpt_oss_20b", 32, 4, 2880, 2880, true}, {"deepseek_v3", 256, 8, 7168, 2048}};
// The layers that SonicMoE's paper (arXiv 2512.14080) times, each with its own number of tokens.
struct PaperShape {
  Shape shape;
  std::int64_t tokens;
};
constexpr PaperShape kPaperShapes[] = {{{"paper_1b4_i256", 128, 8, 768, 256}, 40960},
                                       {{"paper_1b4_i512", 64, 4, 768, 512}, 40960},
                                       {{"paper_1b4_i1024", 32, 2, 768, 1024}, 40960},
                                       {{"paper_7b_i256", 128, 8, 1536, 256}, 24576},
                                       {{"paper_7b_i512", 64, 4, 1536, 512}, 24576},
                                       {{"paper_7b_i1024", 32, 2, 1536, 1024}, 24576},
                                       {{"paper_30b_i256", 256, 16, 4096, 256}, 32768},
                                       {{"paper_30b_i512", 128, 8, 4096, 512}, 32768},
                                       {{"paper_30b_i1024", 64, 4, 4096, 1024}, 32768},
                                       {{"paper_120b_i512", 256, 16, 4096, 512}, 32768},
                                       {{"paper_120b_i1024", 128, 8, 4096, 1024}, 32768},
                                       {{"paper_120b_i2048", 64, 4, 4096, 2048}, 32768}};

class Memory {
 public:
  void* bytes(std::int64_t count) {
    void* data = nullptr;
    check(cudaMalloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(count, 1))),
          "cudaMalloc");
    all_.push_back(data);
    return data;
  }
  void* random(std::int64_t count, float scale) {
    void* data = bytes(count * 2);
    fill_random_bf16(data, count, scale, ++seed_ * 7919, nullptr);
    return data;
  }
  ~Memory() {
    for (void* data : all_) static_cast<void>(cudaFree(data));
  }

 private:
  std::vector<void*> all_;
  std::uint32_t seed_ = 0;
};

struct Layer {
  Memory memory;
  experts::ExpertsRequest request;
  std::vector<const void*> gate_up, down;
  experts::ForwardArgs forward;
  experts::BackwardArgs backward;
  experts::ExpertsSizes sizes;
};

std::vector<std::int32_t> distinct_experts(const Shape& shape, std::int64_t tokens) {
  std::mt19937 random(12345);
  std::vector<std::int32_t> all(static_cast<std::size_t>(shape.experts)), index;
  std::iota(all.begin(), all.end(), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::size_t k = 0; k < static_cast<std::size_t>(shape.top_k); ++k) {
      std::swap(all[k], all[k + random() % (all.size() - k)]);
      index.push_back(all[k]);
    }
  }
  return index;
}

void make_request(Layer& layer,
                  const Shape& shape,
                  std::int64_t tokens,
                  const std::string& mode,
                  std::int64_t rank) {
  experts::ExpertsRequest& r = layer.request;
  r.device = experts::Device::kCuda;
  r.num_experts = shape.experts, r.top_k = shape.top_k;
  r.hidden = shape.hidden, r.inter = shape.inter, r.max_tokens = tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = DType::kBF16;
  r.index_dtype = DType::kI32;
  r.route_weights_dtype = DType::kBF16;
  r.aligned_weights = true;
  if (shape.gpt_oss) {
    r.gate_up_bias = r.down_bias = true;
    r.activation.gate_max = r.activation.up_limit = 7.0f;
    r.activation.alpha = 1.702f;
    r.activation.up_shift = 1.0f;
  }
  const GradSpec bf16{GradMode::kOverwrite, DType::kBF16};
  if (mode == "forward") return;
  r.wanted.hidden = r.wanted.top_k_weights = bf16;
  if (mode == "full") r.wanted.gate_up = r.wanted.down = bf16;
  if (mode != "lora") return;
  r.gate_up_lora = r.down_lora = {.lora_rank = rank, .lora_scale = 2.0f, .dtype = DType::kBF16};
  r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.down_a = r.wanted.down_b = bf16;
}

void make_buffers(Layer& layer,
                  const Shape& shape,
                  std::int64_t tokens,
                  const experts::ExpertsPlan& plan) {
  const experts::ExpertsRequest& r = layer.request;
  Memory& m = layer.memory;
  const std::int64_t e = shape.experts, h = shape.hidden, i = shape.inter;
  const auto root = [](std::int64_t n) { return 1.7f / std::sqrt(static_cast<float>(n)); };
  experts::ExpertsInputs in;
  in.num_tokens = tokens;
  in.hidden = m.random(tokens * h, 1.7f);
  const std::vector<std::int32_t> index = distinct_experts(shape, tokens);
  void* on_device = m.bytes(static_cast<std::int64_t>(index.size()) * 4);
  check(cudaMemcpy(on_device, index.data(), index.size() * 4, cudaMemcpyHostToDevice), "copy");
  in.top_k_index = on_device;
  in.top_k_weights = m.random(tokens * shape.top_k, 0.3f);
  const auto matrices = [&](std::vector<const void*>& base, std::int64_t out, std::int64_t width) {
    const auto* all = static_cast<const char*>(m.random(e * out * width, root(width)));
    for (std::int64_t x = 0; x < e; ++x) base.push_back(all + x * out * width * 2);
    return experts::ProjectionWeights{base, width};
  };
  in.weights.gate_up = matrices(layer.gate_up, 2 * i, h);
  in.weights.down = matrices(layer.down, h, i);
  if (r.gate_up_bias) in.weights.gate_up_bias = m.random(e * 2 * i, 0.1f);
  if (r.down_bias) in.weights.down_bias = m.random(e * h, 0.1f);
  const std::int64_t rank = r.gate_up_lora.lora_rank * e;
  experts::ExpertsGradients& g = layer.backward.gradients;
  if (rank > 0) {
    in.gate_up_lora = {m.random(rank * h, root(h)), m.random(rank * 2 * i, 0.3f)};
    in.down_lora = {m.random(rank * i, root(i)), m.random(rank * h, 0.3f)};
    g.gate_up_a = m.bytes(rank * h * 2), g.gate_up_b = m.bytes(rank * 4 * i);
    g.down_a = m.bytes(rank * i * 2), g.down_b = m.bytes(rank * h * 2);
  }
  layer.sizes = plan.sizes(tokens);
  const auto span = [&](std::int64_t bytes) {
    return std::span<std::byte>(static_cast<std::byte*>(m.bytes(bytes)),
                                static_cast<std::size_t>(bytes));
  };
  layer.forward.inputs = layer.backward.inputs = in;
  layer.forward.output = m.bytes(tokens * h * 2);
  layer.forward.saved = span(layer.sizes.saved_bytes);
  layer.backward.saved = layer.forward.saved;
  layer.forward.scratch = layer.backward.scratch =
      span(std::max(layer.sizes.forward_scratch_bytes, layer.sizes.backward_scratch_bytes));
  layer.backward.d_output = m.random(tokens * h, 1.0f);
  g.hidden = m.bytes(tokens * h * 2);
  g.top_k_weights = m.bytes(tokens * shape.top_k * 2);
  if (r.wanted.gate_up.wanted()) g.gate_up = m.bytes(e * 4 * i * h);
  if (r.wanted.down.wanted()) g.down = m.bytes(e * h * i * 2);
}

// A captured call.
class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<void()>& work) : stream_(stream) {
    work();  // kernels are loaded, and raise their limits, outside the capture
    check(cudaStreamSynchronize(stream), "first call");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    work();
    check(cudaStreamEndCapture(stream, &graph_), "capture");
    check(cudaGraphInstantiate(&executable_, graph_, 0), "instantiate");
    check(cudaEventCreate(&begin_), "event");
    check(cudaEventCreate(&end_), "event");
  }
  ~Graph() {
    static_cast<void>(cudaGraphExecDestroy(executable_));
    static_cast<void>(cudaGraphDestroy(graph_));
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  float milliseconds() const {
    check(cudaEventRecord(begin_, stream_), "event");
    check(cudaGraphLaunch(executable_, stream_), "replay");
    check(cudaEventRecord(end_, stream_), "event");
    check(cudaEventSynchronize(end_), "replay");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_), "event");
    return ms;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// The dense products with the layer's base FLOPs, rows spread evenly over the experts.
void dense(const Cublas& cublas,
           const Shape& s,
           std::int64_t tokens,
           const std::string& mode,
           Memory& memory,
           std::vector<Cublas::Product>& products) {
  const std::int64_t e = s.experts, rows = std::max<std::int64_t>(tokens * s.top_k / e, 1);
  const std::int64_t h = s.hidden, i = s.inter;
  void* x = memory.random(e * rows * h, 1.0f);
  void* wide = memory.random(e * rows * 2 * i, 1.0f);
  void* a = memory.random(e * rows * i, 1.0f);
  void* y = memory.bytes(e * rows * h * 2);
  void* w_1 = memory.random(e * 2 * i * h, 0.03f);
  void* w_2 = memory.random(e * i * h, 0.03f);
  products = {{e, rows, 2 * i, h, true, false, x, w_1, wide},
              {e, rows, h, i, true, false, a, w_2, y}};
  if (mode == "forward") return;
  products.push_back({e, rows, i, h, false, false, x, w_2, a});
  products.push_back({e, rows, h, 2 * i, false, false, wide, w_1, y});
  if (mode != "full") return;
  products.push_back({e, 2 * i, h, rows, false, true, wide, x, w_1});
  products.push_back({e, h, i, rows, false, true, x, a, w_2});
  static_cast<void>(cublas);
}

float percentile(std::vector<float> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(std::lround(share * last))];
}

void run_case(const std::string& implementation,
              const Shape& shape,
              std::int64_t tokens,
              const std::string& mode,
              std::int64_t rank,
              int repeats,
              const Cublas& cublas,
              cudaStream_t stream) {
  Layer layer;
  make_request(layer, shape, tokens, mode, rank);
  layer.request.implementation = implementation;
  const experts::ExpertsPlan plan = experts::plan_experts(layer.request);
  make_buffers(layer, shape, tokens, plan);
  const experts::CudaStream to{0, stream};
  const Graph ours(stream, [&] {
    plan.forward(layer.forward, to);
    if (mode != "forward") plan.backward(layer.backward, to);
  });
  Memory dense_memory;
  std::unique_ptr<Graph> bound;
  if (cublas.why_absent().empty()) {
    std::vector<Cublas::Product> products;
    dense(cublas, shape, tokens, mode, dense_memory, products);
    bound = std::make_unique<Graph>(stream, [&cublas, products, stream] {
      for (const Cublas::Product& one : products) cublas.run(one, stream);
    });
  }
  std::vector<float> times, bounds, shares;
  for (int i = 0; i < repeats + 2; ++i) {
    const float b = bound ? bound->milliseconds() : 0, t = ours.milliseconds();
    if (i < 2) continue;  // clocks settle
    times.push_back(t), bounds.push_back(b), shares.push_back(b / t);
  }
  const double passes = mode == "forward" ? 1 : mode == "lora" ? 2 : 3;
  const double flops = passes * 6.0 * static_cast<double>(tokens * shape.top_k) *
                       static_cast<double>(shape.hidden * shape.inter);
  const float ms = percentile(times, 0.5);
  std::printf(
      "{\"shape\":\"%s\",\"tokens\":%lld,\"mode\":\"%s\",\"rank\":%lld,\"implementation\":\"%s\","
      "\"ms\":%.4f,\"ms_p10\":%.4f,\"ms_p90\":%.4f,\"tflops\":%.1f,\"bound_ms\":%.4f,"
      "\"share_of_bound\":%.3f,\"saved_bytes\":%lld,\"scratch_bytes\":%lld}\n",
      shape.name, static_cast<long long>(tokens), mode.c_str(),
      static_cast<long long>(mode == "lora" ? rank : 0), std::string(plan.implementation()).c_str(),
      static_cast<double>(ms), static_cast<double>(percentile(times, 0.1)),
      static_cast<double>(percentile(times, 0.9)), flops / static_cast<double>(ms) * 1e-9,
      static_cast<double>(percentile(bounds, 0.5)), static_cast<double>(percentile(shares, 0.5)),
      static_cast<long long>(layer.sizes.saved_bytes),
      static_cast<long long>(layer.forward.scratch.size()));
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s IMPLEMENTATION SHAPE|all TOKENS,... MODE [RANK] [REPEATS]\n",
                 argv[0]);
    return 2;
  }
  const std::string name = argv[2], mode = argv[4];
  const std::int64_t rank = argc > 5 ? std::atoll(argv[5]) : 16;
  const int repeats = argc > 6 ? std::atoi(argv[6]) : 20;
  const cuda::DeviceList devices = cuda::list_devices();
  if (devices.devices.empty()) {
    std::fprintf(stderr, "%s\n", devices.why_empty.c_str());
    return 1;
  }
  const Cublas cublas;
  std::printf("{\"device\":\"%s\",\"bound\":\"%s\"}\n", devices.devices[0].name.c_str(),
              cublas.why_absent().empty() ? "cuBLAS" : cublas.why_absent().c_str());
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  for (const PaperShape& paper : kPaperShapes) {
    if (name != "paper" && name != paper.shape.name) continue;
    run_case(argv[1], paper.shape, paper.tokens, mode, rank, repeats, cublas, stream);
  }
  for (const Shape& shape : kShapes) {
    if (name != "all" && name != shape.name) continue;
    for (std::size_t at = 0; at != std::string::npos;) {
      const std::string list = argv[3];
      const std::int64_t tokens = std::atoll(list.c_str() + at);
      at = list.find(',', at);
      if (at != std::string::npos) ++at;
      run_case(argv[1], shape, tokens, mode, rank, repeats, cublas, stream);
    }
  }
  return 0;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  try {
    return moesmith::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
