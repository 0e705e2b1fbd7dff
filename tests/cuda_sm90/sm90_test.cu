// SPDX-License-Identifier: Apache-2.0
// Every Hopper kernel against a product in double on the device, from the same rounded operands, on
// random inputs and poisoned outputs; two runs bitwise equal. Without an sm_90 device: skipped
// (exit code 77) with the reason.
#include <cmath>
#include <cstring>

#include "../../bench/cuda_sm90/problem.cuh"
#include "hopper.h"
#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {
namespace {

int failures = 0;

// out[row, n] = sum over k of f(row, expert, n, k), in double.
template <class F>
__global__ void reference(
    const int* offsets, int experts, std::int64_t rows, int cols, int depth, F f, double* out) {
  const std::int64_t i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= rows * cols) return;
  const std::int64_t row = i / cols;
  const int n = static_cast<int>(i - row * cols);
  int expert = 0;
  while (expert + 1 < experts && offsets[expert + 1] <= row) ++expert;
  double sum = 0.0;
  for (int k = 0; k < depth; ++k) sum += f(row, expert, n, k);
  out[i] = sum;
}

struct Tester {
  Problem& p;
  cudaStream_t stream;
  double tolerance = 4e-3;  // relative L2: an output rounded to bf16 is off by 1.7e-3

  template <class F>
  std::vector<double> expect(std::int64_t cols, std::int64_t depth, F f) {
    double* out;
    const std::int64_t n = p.num_rows * cols;
    SM90_CHECK(cudaMalloc(&out, std::max<std::int64_t>(n, 1) * 8));
    if (n > 0) {
      reference<<<static_cast<unsigned>((n + 255) / 256), 256>>>(
          p.rows.offsets, static_cast<int>(p.spec.experts), p.num_rows, static_cast<int>(cols),
          static_cast<int>(depth), f, out);
    }
    SM90_CHECK(cudaGetLastError());
    std::vector<double> host(n);
    SM90_CHECK(cudaMemcpy(host.data(), out, n * 8, cudaMemcpyDeviceToHost));
    cudaFree(out);
    return host;
  }
  std::vector<float> read(const __nv_bfloat16* from, std::int64_t n) {
    std::vector<std::uint16_t> raw(n);
    SM90_CHECK(cudaMemcpy(raw.data(), from, n * 2, cudaMemcpyDeviceToHost));
    std::vector<float> out(n);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::uint32_t u = static_cast<std::uint32_t>(raw[i]) << 16;
      std::memcpy(&out[i], &u, 4);
    }
    return out;
  }
  std::vector<float> read(const float* from, std::int64_t n) {
    std::vector<float> out(n);
    SM90_CHECK(cudaMemcpy(out.data(), from, n * 4, cudaMemcpyDeviceToHost));
    return out;
  }
  void compare(const char* what, const std::vector<float>& got, const std::vector<double>& want) {
    double error = 0.0, norm = 0.0, worst = 0.0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double d = got[i] - want[i];
      if (!(std::abs(d) <= worst)) worst = std::abs(d), where = i;
      error += d * d;
      norm += want[i] * want[i];
    }
    const double relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
    const bool ok = relative <= tolerance;
    if (!ok) ++failures;
    if (!ok) {
      std::printf("FAIL %-10s rel %.2e worst %.3g at %zu of %zu (got %g want %g)\n", what, relative,
                  worst, where, want.size(), where < got.size() ? got[where] : 0.0f,
                  where < want.size() ? want[where] : 0.0);
    }
  }
  // h from the private order to [R, P, I].
  std::vector<float> ordered_h() {
    const std::int64_t I = p.spec.inter;
    const std::vector<float> raw = read(p.h, p.num_rows * p.pairs * I);
    std::vector<float> out(raw.size());
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(raw.size()); ++i) {
      if (p.adjacent()) {
        const std::int64_t row = i / (2 * I), in_row = i % (2 * I);
        out[row * 2 * I + in_row % 2 * I + in_row / 2] = raw[i];
        continue;
      }
      const std::int64_t at = i % I, group = at / 32 * 32, in = at % 32;
      std::int64_t column = at;
      if (group + 32 <= I) column = group + 8 * (in % 8 / 2) + 2 * (in / 8) + in % 2;
      out[i - at + column] = raw[i];
    }
    return out;
  }
  void run();
  void check_forward();
  void check_backward();
  void check_factors();
};

// Element (n, k) of expert e's [rows, cols] matrix, which may lie transposed.
struct Matrix {
  const __nv_bfloat16* base;
  std::int64_t rows, cols;
  bool transposed;

  __device__ double operator()(std::int64_t e, std::int64_t n, std::int64_t k) const {
    const std::int64_t at = transposed ? k * rows + n : n * cols + k;
    return static_cast<double>(__bfloat162float(base[e * rows * cols + at]));
  }
};

__device__ inline double value(__nv_bfloat16 v) { return static_cast<double>(__bfloat162float(v)); }
__device__ inline double rounded(float v) { return value(__float2bfloat16(v)); }

void activation_point(
    const ProblemSpec& s, double g, double u, double& a, double& d_gate, double& d_up) {
  const bool cut = g > s.gate_max;
  if (cut) g = s.gate_max;
  double v = 0, d = 0;
  const auto sigmoid = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
  switch (s.kind) {
    case ActivationKind::kSilu: {
      const double q = sigmoid(s.alpha * g);
      v = g * q, d = q * (1 + s.alpha * g * (1 - q));
      break;
    }
    case ActivationKind::kGelu: {
      const double cdf = 0.5 * (1 + std::erf(g / std::sqrt(2.0)));
      v = g * cdf, d = cdf + g * std::exp(-0.5 * g * g) * 0.3989422804014327;
      break;
    }
    case ActivationKind::kGeluTanh: {
      const double c = 0.7978845608028654, t = std::tanh(c * (g + 0.044715 * g * g * g));
      v = 0.5 * g * (1 + t), d = 0.5 * (1 + t + g * (1 - t * t) * c * (1 + 3 * 0.044715 * g * g));
      break;
    }
    case ActivationKind::kRelu:
      v = std::max(g, 0.0), d = g > 0;
      break;
    case ActivationKind::kRelu2:
      v = g > 0 ? g * g : 0, d = g > 0 ? 2 * g : 0;
      break;
  }
  if (cut) d = 0;
  if (!s.gated) {
    a = v, d_gate = d, d_up = 0;
    return;
  }
  const bool up_cut = std::abs(u) > s.up_limit;
  if (up_cut) u = u > 0 ? s.up_limit : -s.up_limit;
  a = v * (u + s.up_shift), d_gate = d * (u + s.up_shift), d_up = up_cut ? 0 : v;
}

double to_bf16(double v) {
  const float f = static_cast<float>(v);
  std::uint32_t u;
  std::memcpy(&u, &f, 4);
  u = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
  float r;
  std::memcpy(&r, &u, 4);
  return r;
}

void Tester::check_forward() {
  const ProblemSpec s = p.spec;
  const int H = s.hidden, I = s.inter, P = p.pairs, r = s.lora_rank, r16 = p.rank, E = s.experts;
  const auto *x = p.x, *b1 = p.b1, *b2 = p.b2, *u1 = p.u1, *u2 = p.u2, *a = p.a;
  const Matrix w1{p.w1, P * I, H, s.transposed}, w2{p.w2, H, I, s.transposed};
  const float *a1 = p.a1, *bb1 = p.bb1, *a2 = p.a2, *bb2 = p.bb2;
  const int* token = p.rows.row_token;
  const bool mixed = s.interleaved;
  const double scale = p.scale;
  if (r > 0) {
    compare("u1", read(p.u1, p.num_rows * r16),
            expect(r16, H, [=] __device__(std::int64_t row, int e, int n, int k) {
              return n < r ? scale * value(x[static_cast<std::int64_t>(token[row]) * H + k]) *
                                 rounded(a1[static_cast<std::int64_t>(e * r + n) * H + k])
                           : 0.0;
            }));
    compare("u2", read(p.u2, p.num_rows * r16),
            expect(r16, I, [=] __device__(std::int64_t row, int e, int n, int k) {
              return n < r ? scale * value(a[row * I + k]) *
                                 rounded(a2[static_cast<std::int64_t>(e * r + n) * I + k])
                           : 0.0;
            }));
  }
  compare(
      "h", ordered_h(), expect(P * I, H + r, [=] __device__(std::int64_t row, int e, int n, int k) {
        const std::int64_t at = mixed ? 2 * (n % I) + n / I : n;
        if (k >= H) {
          return value(u1[row * r16 + k - H]) * rounded(bb1[(at * r + k - H) * E + e]);
        }
        const double b =
            k == 0 && b1 != nullptr ? value(b1[static_cast<std::int64_t>(e) * P * I + at]) : 0.0;
        return b + value(x[static_cast<std::int64_t>(token[row]) * H + k]) * w1(e, at, k);
      }));
  const std::vector<float> h = ordered_h();
  std::vector<double> want(p.num_rows * I);
  for (std::int64_t row = 0; row < p.num_rows; ++row) {
    for (int i = 0; i < I; ++i) {
      double d_gate, d_up;
      activation_point(s, h[row * P * I + i], P == 2 ? h[row * P * I + I + i] : 0.0,
                       want[row * I + i], d_gate, d_up);
    }
  }
  compare("a", read(p.a, p.num_rows * I), want);
  compare("y", read(p.y, p.num_rows * H),
          expect(H, I + r, [=] __device__(std::int64_t row, int e, int n, int k) {
            if (k >= I) {
              return value(u2[row * r16 + k - I]) *
                     rounded(bb2[(static_cast<std::int64_t>(n) * r + k - I) * E + e]);
            }
            const double b =
                k == 0 && b2 != nullptr ? value(b2[static_cast<std::int64_t>(e) * H + n]) : 0.0;
            return b + value(a[row * I + k]) * w2(e, n, k);
          }));
  const std::vector<float> y = read(p.y, p.num_rows * H);
  std::vector<double> out(s.tokens * H, 0.0);
  for (std::int64_t slot = 0; slot < s.tokens * s.top_k; ++slot) {
    const int row = p.slot_row[slot];
    for (int i = 0; row >= 0 && i < H; ++i) {
      out[slot / s.top_k * H + i] +=
          static_cast<double>(p.row_weight[row]) * y[static_cast<std::int64_t>(row) * H + i];
    }
  }
  compare("out", read(p.out, s.tokens * H), out);
}

void Tester::check_backward() {
  const ProblemSpec s = p.spec;
  const int H = s.hidden, I = s.inter, P = p.pairs, r = s.lora_rank, r16 = p.rank, E = s.experts;
  const auto *dy = p.dy, *v1 = p.v1, *v2 = p.v2, *dh = p.dh;
  const Matrix w1{p.w1, P * I, H, s.transposed}, w2{p.w2, H, I, s.transposed};
  const bool adjacent = p.adjacent();  // dh, too, has a gate beside its up
  const float *a1 = p.a1, *bb1 = p.bb1, *a2 = p.a2, *bb2 = p.bb2;
  const int* token = p.rows.row_token;
  const bool mixed = s.interleaved;
  const double scale = p.scale;
  if (r > 0) {
    compare("v2", read(p.v2, p.num_rows * r16),
            expect(r16, H, [=] __device__(std::int64_t row, int e, int n, int k) {
              return n < r ? scale * value(dy[static_cast<std::int64_t>(token[row]) * H + k]) *
                                 rounded(bb2[(static_cast<std::int64_t>(k) * r + n) * E + e])
                           : 0.0;
            }));
    compare("v1", read(p.v1, p.num_rows * r16),
            expect(r16, P * I, [=] __device__(std::int64_t row, int e, int n, int k) {
              const std::int64_t at = mixed ? 2 * (k % I) + k / I : k;
              return n < r ? scale * value(dh[row * P * I + (adjacent ? at : k)]) *
                                 rounded(bb1[(at * r + n) * E + e])
                           : 0.0;
            }));
  }
  const std::vector<double> d_a =
      expect(I, H + r, [=] __device__(std::int64_t row, int e, int n, int k) {
        if (k >= H) {
          return value(v2[row * r16 + k - H]) *
                 rounded(a2[static_cast<std::int64_t>(e * r + k - H) * I + n]);
        }
        return value(dy[static_cast<std::int64_t>(token[row]) * H + k]) * w2(e, k, n);
      });
  const std::vector<float> h = ordered_h();
  std::vector<double> want_dh(p.num_rows * P * I), want_a(p.num_rows * I),
      d_weight(s.tokens * s.top_k, 0.0);
  std::vector<double> by_row(p.num_rows, 0.0);
  for (std::int64_t row = 0; row < p.num_rows; ++row) {
    for (int i = 0; i < I; ++i) {
      double act, d_gate, d_up;
      activation_point(s, h[row * P * I + i], P == 2 ? h[row * P * I + I + i] : 0.0, act, d_gate,
                       d_up);
      const double d = d_a[row * I + i], w = p.row_weight[row];
      want_a[row * I + i] = act;
      want_dh[row * P * I + (adjacent ? 2 * i : i)] = w * d * d_gate;
      if (P == 2) want_dh[row * P * I + (adjacent ? 2 * i + 1 : I + i)] = w * d * d_up;
      by_row[row] += d * to_bf16(act);
    }
  }
  for (std::size_t slot = 0; slot < d_weight.size(); ++slot) {
    if (p.slot_row[slot] >= 0) d_weight[slot] = by_row[p.slot_row[slot]];
  }
  compare("dh", read(p.dh, p.num_rows * P * I), want_dh);
  if (r > 0) compare("a again", read(p.a_again, p.num_rows * I), want_a);
  compare("d_weights", read(p.d_weights, s.tokens * s.top_k), d_weight);
  compare("dx", read(p.dx, p.num_rows * H),
          expect(H, P * I + r, [=] __device__(std::int64_t row, int e, int n, int k) {
            if (k >= P * I) {
              return value(v1[row * r16 + k - P * I]) *
                     rounded(a1[static_cast<std::int64_t>(e * r + k - P * I) * H + n]);
            }
            const std::int64_t at = mixed ? 2 * (k % I) + k / I : k;
            return value(dh[row * P * I + (adjacent ? at : k)]) * w1(e, at, n);
          }));
  const std::vector<float> dx = read(p.dx, p.num_rows * H);
  std::vector<double> out(s.tokens * H, 0.0);
  for (std::int64_t slot = 0; slot < s.tokens * s.top_k; ++slot) {
    const int row = p.slot_row[slot];
    for (int i = 0; row >= 0 && i < H; ++i)
      out[slot / s.top_k * H + i] += dx[static_cast<std::int64_t>(row) * H + i];
  }
  compare("d_hidden", read(p.d_hidden_out, s.tokens * H), out);
}

// dA [r E, C] and dB [C, r E] on the host from rows wide [R, C] and narrow [R, r16].
void Tester::check_factors() {
  const ProblemSpec s = p.spec;
  const std::int64_t H = s.hidden, I = s.inter, P = p.pairs, r = s.lora_rank, r16 = p.rank,
                     E = s.experts;
  if (r == 0) return;
  const std::vector<float> x = read(p.x, s.tokens * H), dy = read(p.dy, s.tokens * H);
  const std::vector<float> a = read(p.a, p.num_rows * I), dh = read(p.dh, p.num_rows * P * I);
  const auto sum = [&](const char* what, const float* got, const std::vector<float>& wide,
                       std::int64_t cols, bool gathered, const __nv_bfloat16* narrow_rows,
                       bool weighted, bool is_a, bool mixed) {
    const std::vector<float> narrow = read(narrow_rows, p.num_rows * r16);
    std::vector<double> want(r * E * cols, 0.0);
    for (std::int64_t e = 0; e < E; ++e) {
      for (std::int64_t row = p.offsets[e]; row < p.offsets[e + 1]; ++row) {
        const float* from = wide.data() + (gathered ? p.row_token[row] : row) * cols;
        for (std::int64_t j = 0; j < r; ++j) {
          double n = narrow[row * r16 + j];
          if (weighted) n = to_bf16(static_cast<float>(n) * p.row_weight[row]);
          for (std::int64_t c = 0; c < cols; ++c) {
            const std::int64_t at = mixed ? (c < cols / 2 ? 2 * c : 2 * (c - cols / 2) + 1) : c;
            want[is_a ? (e * r + j) * cols + c : (at * r + j) * E + e] += n * from[c];
          }
        }
      }
    }
    compare(what, read(got, r * E * cols), want);
  };
  sum("dA1", p.da1, x, H, true, p.v1, false, true, false);
  sum("dB1", p.dbb1, dh, P * I, false, p.u1, false, false, p.mixed());
  sum("dA2", p.da2, a, I, false, p.v2, true, true, false);
  sum("dB2", p.dbb2, dy, H, true, p.u2, true, false, false);
}

void Tester::run() {
  const auto once = [&] {
    for (auto& [name, step] : p.forward_steps()) step(stream);
    for (auto& [name, step] : p.backward_steps()) step(stream);
    SM90_CHECK(cudaStreamSynchronize(stream));
  };
  once();
  const std::int64_t H = p.spec.hidden, n = p.spec.tokens * H,
                     m = p.spec.lora_rank * p.spec.experts * H;
  const std::vector<float> out = read(p.out, n), dx = read(p.d_hidden_out, n), da = read(p.da1, m),
                           db = read(p.dbb2, m);
  check_forward();
  check_backward();
  check_factors();
  for (int again = 0; again < 3; ++again) {
    once();
    const bool same = std::memcmp(out.data(), read(p.out, n).data(), n * 4) == 0 &&
                      std::memcmp(dx.data(), read(p.d_hidden_out, n).data(), n * 4) == 0 &&
                      std::memcmp(da.data(), read(p.da1, m).data(), m * 4) == 0 &&
                      std::memcmp(db.data(), read(p.dbb2, m).data(), m * 4) == 0;
    if (!same) {
      ++failures;
      std::printf("FAIL a second run gives other bits\n");
      break;
    }
  }
}

void test(ProblemSpec spec, TileChoice tile) {
  static unsigned seed = 7;
  spec.seed = ++seed;
  const int before = failures;
  cudaStream_t stream;
  SM90_CHECK(cudaStreamCreate(&stream));
  {
    Problem p(spec);
    p.tile_up = p.tile_down = p.tile_da = p.tile_dx = tile;
    Tester{p, stream}.run();
  }
  cudaStreamDestroy(stream);
  std::printf("%s %s: E%ld K%ld H%ld I%ld T%ld r%ld %s%s kind %d cols %d cluster %d\n",
              failures == before ? "ok  " : "FAIL", spec.name.c_str(), spec.experts, spec.top_k,
              spec.hidden, spec.inter, spec.tokens, spec.lora_rank,
              spec.gated ? "gated" : "ungated",
              spec.transposed    ? spec.interleaved ? " adjacent" : " transposed"
              : spec.interleaved ? " interleaved"
                                 : "",
              static_cast<int>(spec.kind), tile.cols, tile.cluster);
  std::fflush(stdout);
}

// What the host decides, without a device.
void check(bool holds, const char* what) {
  if (!holds) ++failures, std::printf("FAIL %s\n", what);
}
void test_host() {
  const Shape good{.num_experts = 8, .top_k = 2, .hidden = 64, .inter = 40, .max_tokens = 100};
  check(refusal(good).empty(), "a good shape is refused");
  Shape bad = good;
  bad.hidden = 65;
  check(refusal(bad) == "hidden size is 65, expected a multiple of 8", "hidden 65 is not refused");
  bad = good, bad.inter = 4;
  check(refusal(bad) == "intermediate size is 4, expected a multiple of 8",
        "inter 4 is not refused");
  bad = good, bad.max_tokens = std::int64_t{1} << 30;
  check(!refusal(bad).empty(), "2^31 slots are not refused");
  check(!refusal(Weights{reinterpret_cast<const void*>(8), 64, 0, 0}).empty(),
        "8-byte alignment is not refused");
  check(!refusal(Weights{nullptr, 60, 0, 0}).empty(), "a row stride of 60 is not refused");
  check(choose_tile(131072, 128, 1536, 2048, true).cluster == 1, "1024 rows per expert: a cluster");
  check(choose_tile(32768, 8, 28672, 4096, true).cluster == 2, "4096 rows per expert: no cluster");
  check(choose_tile(65536, 32, 2880, 2880, false).cols == 192, "2880 columns: not by 192");
  check(choose_tile(65536, 32, 2048, 2880, false).cols == 256, "2048 columns: not by 256");
  check(choose_tile(131072, 128, 1536, 2048, true).group == 8, "1024 gathered rows: not 8 tiles");
  check(choose_tile(131072, 256, 4096, 7168, true).group == 4, "512 gathered rows: not 4 tiles");
  check(choose_tile(131072, 256, 7168, 4096, false).group == 16, "contiguous rows: not 16 tiles");
  check(max_tiles(1000, 4) >= 4 + 1000 / 128 && max_tiles(3, 100) >= 3, "too few tiles");
}

int run_all() {
  test_host();
  if (failures > 0) return 1;
  if (!has_hopper()) return kSkipped;
  const ProblemSpec odd{.name = "odd sizes",
                        .experts = 6,
                        .top_k = 2,
                        .hidden = 264,
                        .inter = 200,
                        .tokens = 701,
                        .lora_rank = 8,
                        .skip = 0.2,
                        .skew = 0.7};
  const ProblemSpec even{.name = "even",
                         .experts = 8,
                         .top_k = 4,
                         .hidden = 512,
                         .inter = 384,
                         .tokens = 600,
                         .lora_rank = 16};
  for (int cols : {256, 192}) {
    for (int cluster : {1, 2}) {
      const TileChoice tile{cols, cluster, 0};
      test(even, tile);
      test(odd, tile);
      ProblemSpec spec = odd;
      spec.interleaved = true, spec.bias = true, spec.lora_rank = 40,
      spec.name = "interleaved, bias";
      spec.gate_max = 0.7f, spec.up_limit = 0.7f, spec.alpha = 1.702f, spec.up_shift = 1.0f;
      test(spec, tile);
      spec = odd;
      spec.gated = false, spec.kind = ActivationKind::kRelu2, spec.name = "ungated",
      spec.lora_rank = 72;
      test(spec, tile);
      spec.transposed = true;
      test(spec, tile);
      spec = odd;
      spec.transposed = true, spec.bias = true;
      test(spec, tile);
      spec.interleaved = true, spec.lora_rank = 40;
      spec.gate_max = 0.7f, spec.up_limit = 0.7f, spec.alpha = 1.702f, spec.up_shift = 1.0f;
      test(spec, tile);
      spec = even;
      spec.transposed = spec.interleaved = true;
      test(spec, tile);
    }
  }
  for (ActivationKind kind :
       {ActivationKind::kGelu, ActivationKind::kGeluTanh, ActivationKind::kRelu}) {
    ProblemSpec spec = odd;
    spec.kind = kind, spec.name = "activation", spec.lora_rank = 32;
    test(spec, {});
    spec.gated = false;
    test(spec, {});
  }
  ProblemSpec none = even;
  none.lora_rank = 0, none.name = "no LoRA";
  test(none, {});
  // B's packing takes 32 experts at a time from 32 on, four in one load where they divide by 4.
  for (std::int64_t experts : {40, 37}) {
    ProblemSpec many = odd;
    many.experts = experts, many.lora_rank = 40, many.name = "many experts";
    test(many, {});
    many.transposed = true;
    test(many, {});
  }
  ProblemSpec few = even;
  few.tokens = 1, few.name = "one token";
  test(few, {});
  few = odd;
  few.tables = true, few.name = "pointers";
  test(few, {256, 1, 0});
  test(few, {192, 2, 0});
  few = even;
  few.tokens = 700, few.experts = 3, few.top_k = 1, few.hidden = 2048, few.inter = 768,
  few.name = "deep";
  test(few, {256, 1, 4});
  test(few, {256, 2, 4});
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace moesmith::kernels::sm90

int main() {
  try {
    return moesmith::kernels::sm90::run_all();
  } catch (const moesmith::Error& error) {
    std::printf("FAIL %s\n", error.what());
    return 1;
  }
}
