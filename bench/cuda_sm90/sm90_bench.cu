// SPDX-License-Identifier: Apache-2.0
// Times every kernel of the Hopper experts layer (LoRA forward and backward) and, interleaved in
// the same run, four dense batched products of the same base FLOPs through cuBLAS, which is opened
// at run time. One JSON object a line.
//   sm90_bench SHAPE... [--tokens N,..] [--rank R] [--repeat N] [--cols C] [--cluster C] [--group
//   G]
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <sstream>

#include "cuda/cublas.h"
#include "moesmith/error.h"
#include "problem.cuh"

namespace moesmith::kernels::sm90 {
namespace {

// The bound: x W^T for both projections, then their gradients, one batch entry per expert.
class Dense {
 public:
  explicit Dense(cudaStream_t stream) : stream_(stream) {
    if (cuda::why_no_cublas().empty()) {
      cublas_.emplace();
    } else {
      std::fprintf(stderr, "no cuBLAS: %s\n", cuda::why_no_cublas().c_str());
    }
  }
  bool ready() const { return cublas_.has_value(); }

  void run(Problem& p) const {
    const std::int64_t E = p.spec.experts, H = p.spec.hidden, I = p.spec.inter, W = p.pairs * I;
    const std::int64_t rows = p.max_rows / E;
    multiply(true, rows, W, H, p.dx, p.w1, p.h, E);  // the values do not matter, the sizes do
    multiply(true, rows, H, I, p.a, p.w2, p.y, E);
    multiply(false, rows, I, H, p.y, p.w2, p.a_again, E);
    multiply(false, rows, H, W, p.dh, p.w1, p.dx, E);
  }

 private:
  // c [m, n] = a [m, k] b^T, b [n, k]; or a b, b [k, n]
  void multiply(bool transposed,
                std::int64_t m,
                std::int64_t n,
                std::int64_t k,
                const void* a,
                const void* b,
                void* c,
                std::int64_t batch) const {
    cuda::DenseProduct product;
    product.m = m, product.n = n, product.k = k;
    product.a = a, product.a_stride = k, product.a_batch = m * k;
    product.b = b, product.b_stride = transposed ? k : n, product.b_batch = n * k;
    product.b_transposed = transposed;
    product.c = c, product.c_stride = n, product.c_batch = m * n;
    product.batch = batch;
    cublas_->run(product, stream_);
  }

  cudaStream_t stream_;
  std::optional<cuda::Cublas> cublas_;
};

double percentile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0.0
                   : v[std::min(v.size() - 1,
                                static_cast<std::size_t>(q * static_cast<double>(v.size())))];
}

struct Timer {
  cudaEvent_t begin, end;
  Timer() {
    SM90_CHECK(cudaEventCreate(&begin));
    SM90_CHECK(cudaEventCreate(&end));
  }
  template <class F>
  double operator()(cudaStream_t stream, F&& f) {
    SM90_CHECK(cudaEventRecord(begin, stream));
    f();
    SM90_CHECK(cudaEventRecord(end, stream));
    SM90_CHECK(cudaEventSynchronize(end));
    float ms = 0.0f;
    SM90_CHECK(cudaEventElapsedTime(&ms, begin, end));
    return ms;
  }
};

cudaGraphExec_t capture(cudaStream_t stream, std::vector<Problem::Step> steps) {
  SM90_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (auto& [name, step] : steps) step(stream);
  cudaGraph_t graph;
  SM90_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec;
  SM90_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  cudaGraphDestroy(graph);
  return exec;
}

void bench(const ProblemSpec& spec, int repeat, const TileChoice& tile, const std::string& commit) {
  cudaStream_t stream;
  SM90_CHECK(cudaStreamCreate(&stream));
  {
    Problem p(spec);
    p.tile_up = p.tile_down = p.tile_da = p.tile_dx = tile;
    Dense dense(stream);
    Timer time;
    auto forward = p.forward_steps(), backward = p.backward_steps();
    for (int i = 0; i < 2; ++i) {
      for (auto* steps : {&forward, &backward}) {
        for (auto& [name, step] : *steps) step(stream);
      }
      if (dense.ready()) dense.run(p);
    }
    SM90_CHECK(cudaStreamSynchronize(stream));
    cudaGraphExec_t forward_graph = capture(stream, forward),
                    backward_graph = capture(stream, backward);
    std::vector<double> f, b, bound, share, eager;
    std::map<std::string, std::vector<double>> by_step;
    for (int i = 0; i < repeat; ++i) {
      const double fm = time(stream, [&] { SM90_CHECK(cudaGraphLaunch(forward_graph, stream)); });
      const double bm = time(stream, [&] { SM90_CHECK(cudaGraphLaunch(backward_graph, stream)); });
      eager.push_back(time(stream, [&] {
        for (auto* steps : {&forward, &backward}) {
          for (auto& [name, step] : *steps) step(stream);
        }
      }));
      const double dm = dense.ready() ? time(stream, [&] { dense.run(p); }) : 0.0;
      f.push_back(fm), b.push_back(bm), bound.push_back(dm), share.push_back(dm / (fm + bm));
    }
    for (int i = 0; i < std::max(repeat / 2, 3); ++i) {
      for (auto& [name, step] : forward)
        by_step["f " + name].push_back(time(stream, [&] { step(stream); }));
      for (auto& [name, step] : backward)
        by_step["b " + name].push_back(time(stream, [&] { step(stream); }));
    }
    const double base =
        (p.pairs == 2 ? 12.0 : 8.0) * static_cast<double>(p.max_rows) * spec.hidden * spec.inter;
    const double total = percentile(f, 0.5) + percentile(b, 0.5);
    std::printf(
        "{\"shape\":\"%s\",\"experts\":%ld,\"top_k\":%ld,\"hidden\":%ld,\"inter\":%ld,\"tokens\":%"
        "ld,\"rank\":%ld,"
        "\"skew\":%.2f,\"cols\":%d,\"cluster\":%d,\"group\":%d,"
        "\"forward_ms\":%.4f,\"backward_ms\":%.4f,\"p10_ms\":%.4f,\"p90_ms\":%.4f,\"eager_ms\":%."
        "4f,\"bmm_ms\":%.4f,"
        "\"bmm_tflops\":%.1f,\"tflops\":%.1f,\"share_of_bmm\":%.4f,\"commit\":\"%s\",\"steps_ms\":"
        "{",
        spec.name.c_str(), spec.experts, spec.top_k, spec.hidden, spec.inter, spec.tokens,
        spec.lora_rank, spec.skew, tile.cols, tile.cluster, tile.group, percentile(f, 0.5),
        percentile(b, 0.5), percentile(f, 0.1) + percentile(b, 0.1),
        percentile(f, 0.9) + percentile(b, 0.9), percentile(eager, 0.5), percentile(bound, 0.5),
        base / percentile(bound, 0.5) * 1e-9, base / total * 1e-9, percentile(share, 0.5),
        commit.c_str());
    bool first = true;
    for (auto& [name, ms] : by_step) {
      std::printf("%s\"%s\":%.4f", first ? "" : ",", name.c_str(), percentile(ms, 0.5));
      first = false;
    }
    std::printf("}}\n");
    std::fprintf(stderr,
                 "%-10s T%-6ld r%-3ld cols %d cl %d g %d | fwd %.3f bwd %.3f eager %.3f bmm "
                 "%.3f (%.0f TF) share %.1f%%\n   ",
                 spec.name.c_str(), spec.tokens, spec.lora_rank, tile.cols, tile.cluster,
                 tile.group, percentile(f, 0.5), percentile(b, 0.5), percentile(eager, 0.5),
                 percentile(bound, 0.5), base / percentile(bound, 0.5) * 1e-9,
                 100 * percentile(share, 0.5));
    const double product = 2.0 * static_cast<double>(p.max_rows) * spec.hidden * spec.inter;
    for (auto& [name, ms] : by_step) {
      const double t = percentile(ms, 0.5);
      double flops = 0;
      if (name == "f up" || name == "b dX") flops = product * static_cast<double>(p.pairs);
      if (name == "f down" || name == "b dA'") flops = product;
      std::fprintf(stderr, "%s %.3f", name.c_str(), t);
      if (flops > 0) std::fprintf(stderr, " (%.0f TF)", flops / t * 1e-9);
      std::fprintf(stderr, "; ");
    }
    std::fprintf(stderr, "\n");
    std::fflush(stdout);
    cudaGraphExecDestroy(forward_graph);
    cudaGraphExecDestroy(backward_graph);
  }
  cudaStreamDestroy(stream);
}

const std::map<std::string, ProblemSpec> kShapes = {
    {"qwen3-30b",
     {.name = "qwen3-30b",
      .experts = 128,
      .top_k = 8,
      .hidden = 2048,
      .inter = 768,
      .tokens = 16384}},
    {"olmoe",
     {.name = "olmoe", .experts = 64, .top_k = 8, .hidden = 2048, .inter = 1024, .tokens = 16384}},
    {"mixtral",
     {.name = "mixtral",
      .experts = 8,
      .top_k = 2,
      .hidden = 4096,
      .inter = 14336,
      .tokens = 16384}},
    {"qwen3-next",
     {.name = "qwen3-next",
      .experts = 512,
      .top_k = 10,
      .hidden = 2048,
      .inter = 512,
      .tokens = 16384}},
    {"gpt-oss-20b",
     {.name = "gpt-oss-20b",
      .experts = 32,
      .top_k = 4,
      .hidden = 2880,
      .inter = 2880,
      .tokens = 16384,
      .bias = true,
      .gate_max = 7.0f,
      .up_limit = 7.0f,
      .alpha = 1.702f,
      .up_shift = 1.0f}},
    {"gpt-oss-20b-transposed",
     {.name = "gpt-oss-20b-transposed",
      .experts = 32,
      .top_k = 4,
      .hidden = 2880,
      .inter = 2880,
      .tokens = 16384,
      .interleaved = true,
      .bias = true,
      .transposed = true,
      .gate_max = 7.0f,
      .up_limit = 7.0f,
      .alpha = 1.702f,
      .up_shift = 1.0f}},
    {"deepseek-v3",
     {.name = "deepseek-v3",
      .experts = 256,
      .top_k = 8,
      .hidden = 7168,
      .inter = 2048,
      .tokens = 16384}},
};

int run(int argc, char** argv) {
  std::vector<std::string> shapes;
  std::vector<std::int64_t> tokens{16384};
  int repeat = 10, rank = 16;
  double skew = 0.0;
  TileChoice tile;
  std::string commit = "unknown";
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto next = [&] { return std::string(i + 1 < argc ? argv[++i] : "0"); };
    if (arg == "--tokens") {
      tokens.clear();
      std::stringstream list(next());
      for (std::string one; std::getline(list, one, ',');) tokens.push_back(std::stoll(one));
    } else if (arg == "--rank") {
      rank = std::stoi(next());
    } else if (arg == "--repeat") {
      repeat = std::stoi(next());
    } else if (arg == "--cols") {
      tile.cols = std::stoi(next());
    } else if (arg == "--cluster") {
      tile.cluster = std::stoi(next());
    } else if (arg == "--group") {
      tile.group = std::stoi(next());
    } else if (arg == "--skew") {
      skew = std::stod(next());
    } else if (arg == "--commit") {
      commit = next();
    } else {
      shapes.push_back(arg);
    }
  }
  for (const std::string& name : shapes) {
    const auto found = kShapes.find(name);
    if (found == kShapes.end()) {
      std::fprintf(stderr, "no shape %s\n", name.c_str());
      return 2;
    }
    for (std::int64_t t : tokens) {
      ProblemSpec spec = found->second;
      spec.tokens = t, spec.lora_rank = rank, spec.skew = skew,
      spec.seed = static_cast<unsigned>(t + rank);
      bench(spec, repeat, tile, commit);
    }
  }
  return 0;
}

}  // namespace
}  // namespace moesmith::kernels::sm90

int main(int argc, char** argv) {
  try {
    return moesmith::kernels::sm90::run(argc, argv);
  } catch (const moesmith::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
