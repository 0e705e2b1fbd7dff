// SPDX-License-Identifier: Apache-2.0
// Times the gradients of whole weights of one layer, bf16, overwritten, uniform random routing, for
// several tiles, and by turns the dense batched products of the same FLOPs through cuBLAS. One JSON
// object a line.
//   weight_gradient_bench E,K,H,I,T... [--all] [--repeat N]
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cuda/cublas.h"
#include "kernels/cuda/sm90/weight_gradient.h"

namespace moesmith::kernels::sm90 {
namespace {

void check_cuda(cudaError_t error, int line) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "line %d: %s\n", line, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK_CUDA(call) check_cuda((call), __LINE__)

__global__ void fill(__nv_bfloat16* to, std::int64_t n, std::uint64_t seed) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    std::uint64_t z = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ull + seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    to[i] = __float2bfloat16(static_cast<float>(z >> 40) * (2.0f / 16777216.0f) - 1.0f);
  }
}

struct Shape {
  long experts, top_k, hidden, inter, tokens;
};

class Device {
 public:
  ~Device() {
    for (void* p : all_) cudaFree(p);
  }
  void* bytes(std::int64_t n) {
    void* p = nullptr;
    CHECK_CUDA(cudaMalloc(&p, static_cast<std::size_t>(n)));
    all_.push_back(p);
    return p;
  }
  __nv_bfloat16* random(std::int64_t n) {
    auto* p = static_cast<__nv_bfloat16*>(bytes(n * 2));
    fill<<<2048, 256>>>(p, n, all_.size() * 7919);
    return p;
  }
  template <class T>
  T* copy(const std::vector<T>& from) {
    auto* p = static_cast<T*>(bytes(static_cast<std::int64_t>(from.size() * sizeof(T))));
    CHECK_CUDA(cudaMemcpy(p, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
  }

 private:
  std::vector<void*> all_;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void bench(const Shape& s, bool all, int repeat, const cuda::Cublas* cublas) {
  Device device;
  std::mt19937 random(11);
  const std::int64_t num_rows = s.tokens * s.top_k;
  std::vector<std::vector<int>> of_expert(s.experts);
  std::vector<int> experts(s.experts);
  for (int e = 0; e < s.experts; ++e) experts[e] = e;
  for (int t = 0; t < s.tokens; ++t) {
    for (int k = 0; k < s.top_k; ++k) {
      std::swap(experts[k], experts[k + random() % (experts.size() - k)]);
      of_expert[experts[k]].push_back(t);
    }
  }
  std::vector<int> offsets{0}, row_token;
  for (const auto& tokens : of_expert) {
    row_token.insert(row_token.end(), tokens.begin(), tokens.end());
    offsets.push_back(static_cast<int>(row_token.size()));
  }
  Rows rows;
  rows.num_experts = s.experts, rows.num_tokens = s.tokens, rows.top_k = s.top_k;
  rows.max_rows = num_rows;
  rows.offsets = device.copy(offsets), rows.row_token = device.copy(row_token);
  void* tiles = device.bytes(tile_bytes(num_rows, s.experts));
  rows.tiles = tiles;
  const std::int64_t H = s.hidden, I = s.inter;
  const auto *x = device.random(s.tokens * H), *dh = device.random(num_rows * 2 * I),
             *a = device.random(num_rows * I), *dense_x = device.random(num_rows * H);
  void* out = device.bytes(s.experts * 2 * I * H * 2);
  cudaStream_t stream;
  CHECK_CUDA(cudaStreamCreate(&stream));
  build_tiles(rows, tiles, stream);
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  const auto time = [&](const std::function<void()>& work) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    work();
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    return static_cast<double>(ms);
  };
  struct Sum {
    const char* name;
    std::int64_t m, n;
    const void *left, *right;
    bool left_gathered;
  };
  const Sum sums[] = {{"dW1", 2 * I, H, dh, x, false},
                      {"dW1 transposed", H, 2 * I, x, dh, true},
                      {"dW2", H, I, x, a, true},
                      {"dW2 transposed", I, H, a, x, false}};
  for (const Sum& sum : sums) {
    if (!all && (&sum == &sums[1] || &sum == &sums[3])) continue;
    std::vector<TileChoice> choices{{}};
    if (all) {
      for (int cluster : {1, 2}) {
        for (int group : {4, 8, 16}) choices.push_back({0, cluster, group});
      }
    }
    std::vector<std::vector<double>> times(choices.size());
    std::vector<double> bound;
    const std::int64_t each = num_rows / s.experts;
    for (int i = -1; i < repeat; ++i) {
      for (std::size_t c = 0; c < choices.size(); ++c) {
        const double ms = time([&] {
          weight_gradient({.rows = rows,
                           .m = sum.m,
                           .n = sum.n,
                           .left = sum.left,
                           .right = sum.right,
                           .left_gathered = sum.left_gathered,
                           .out = out,
                           .tile = choices[c]},
                          stream);
        });
        if (i >= 0) times[c].push_back(ms);
      }
      const double ms = time([&] {
        if (cublas == nullptr) return;
        cuda::DenseProduct dense;
        dense.m = sum.m, dense.n = sum.n, dense.k = each, dense.batch = s.experts;
        dense.a = sum.left == x ? dense_x : sum.left;
        dense.a_stride = sum.m, dense.a_batch = each * sum.m, dense.a_transposed = true;
        dense.b = sum.right == x ? dense_x : sum.right;
        dense.b_stride = sum.n, dense.b_batch = each * sum.n;
        dense.c = out, dense.c_stride = sum.n, dense.c_batch = sum.m * sum.n;
        cublas->run(dense, stream);
      });
      if (i >= 0) bound.push_back(ms);
    }
    const double flops = 2.0 * static_cast<double>(num_rows) * static_cast<double>(sum.m * sum.n);
    for (std::size_t c = 0; c < choices.size(); ++c) {
      std::printf(
          "{\"sum\":\"%s\",\"experts\":%ld,\"top_k\":%ld,\"hidden\":%ld,\"inter\":%ld,"
          "\"tokens\":%ld,\"cluster\":%d,\"group\":%d,\"ms\":%.4f,\"tflops\":%.0f,"
          "\"bmm_ms\":%.4f,\"bmm_tflops\":%.0f}\n",
          sum.name, s.experts, s.top_k, s.hidden, s.inter, s.tokens, choices[c].cluster,
          choices[c].group, median(times[c]), flops / median(times[c]) * 1e-9, median(bound),
          flops / median(bound) * 1e-9);
    }
    std::fflush(stdout);
  }
  CHECK_CUDA(cudaStreamDestroy(stream));
}

int run(int argc, char** argv) {
  std::vector<Shape> shapes;
  bool all = false;
  int repeat = 7;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    Shape s{};
    if (arg == "--all") {
      all = true;
    } else if (arg == "--repeat" && i + 1 < argc) {
      repeat = std::atoi(argv[++i]);
    } else if (std::sscanf(argv[i], "%ld,%ld,%ld,%ld,%ld", &s.experts, &s.top_k, &s.hidden,
                           &s.inter, &s.tokens) == 5) {
      shapes.push_back(s);
    } else {
      std::fprintf(stderr, "usage: %s E,K,H,I,T... [--all] [--repeat N]\n", argv[0]);
      return 2;
    }
  }
  std::optional<cuda::Cublas> cublas;
  if (cuda::why_no_cublas().empty()) cublas.emplace();
  for (const Shape& s : shapes) bench(s, all, repeat, cublas ? &*cublas : nullptr);
  return 0;
}

}  // namespace
}  // namespace moesmith::kernels::sm90

int main(int argc, char** argv) { return moesmith::kernels::sm90::run(argc, argv); }
