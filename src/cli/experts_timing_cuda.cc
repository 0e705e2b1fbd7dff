// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cli/cuda_memory.h"
#include "cli/experts_timing.h"
#include "core/checked.h"
#include "core/text.h"
#include "cuda/cublas.h"
#include "cuda/launch.h"

namespace moesmith::cli {
namespace {

// What one call reads.
struct InputSet {
  experts::ExpertsInputs inputs;
  std::vector<const void*> gate_up_base, down_base;
  const void* d_output = nullptr;
};

// Everything of a case but scratch. `sets` take turns.
class Buffers {
 public:
  explicit Buffers(const LayerCase& c) : case_(c) {
    const std::int64_t e = c.shape.num_experts, h = c.shape.hidden, i = c.shape.inter;
    const std::int64_t size = dtype_size(c.dtype);
    for (std::int64_t set = 0; set < num_sets(); ++set) add_set(static_cast<std::uint64_t>(set));
    output_ = memory_.bytes(c.tokens * h * size);
    if (c.mode == LayerMode::kForward) return;
    gradients_.hidden = memory_.bytes(c.tokens * h * size);
    gradients_.top_k_weights = memory_.bytes(c.tokens * c.shape.top_k * 4);
    const std::int64_t trained = dtype_size(c.trained_dtype()), rank = c.lora_rank * e;
    if (c.mode == LayerMode::kFull) {
      gradients_.gate_up = memory_.bytes(e * 2 * i * h * trained);
      gradients_.down = memory_.bytes(e * h * i * trained);
      return;
    }
    gradients_.gate_up_a = memory_.bytes(rank * h * trained);
    gradients_.gate_up_b = memory_.bytes(rank * 2 * i * trained);
    gradients_.down_a = memory_.bytes(rank * i * trained);
    gradients_.down_b = memory_.bytes(rank * h * trained);
  }

  const std::vector<std::unique_ptr<InputSet>>& sets() const { return sets_; }
  void* output() const { return output_; }
  const experts::ExpertsGradients& gradients() const { return gradients_; }

 private:
  // One where it exceeds twice the L2 cache by itself, else one more than what does, at most 64.
  std::int64_t num_sets() const {
    int cache = 0;
    check_cuda(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, case_.cuda_device),
               "cudaDeviceGetAttribute");
    const std::int64_t twice = 2 * std::int64_t{cache};
    const std::int64_t bytes = 3 * case_.shape.num_experts * case_.shape.hidden *
                               case_.shape.inter * dtype_size(case_.dtype);
    return bytes > twice ? 1 : std::min<std::int64_t>(ceil_div(twice, bytes) + 1, 64);
  }

  void add_set(std::uint64_t number) {
    const LayerShape& s = case_.shape;
    const std::int64_t e = s.num_experts, h = s.hidden, i = s.inter;
    std::uint64_t stream = 100 * number;
    const auto random = [&](std::int64_t count, double scale) {
      return memory_.random(count, case_.dtype, scale, ++stream);
    };
    sets_.push_back(std::make_unique<InputSet>());
    InputSet& set = *sets_.back();
    experts::ExpertsInputs& in = set.inputs;
    in.num_tokens = case_.tokens;
    in.hidden = random(case_.tokens * h, 2.0);
    set.d_output = random(case_.tokens * h, 2.0);
    in.top_k_index = memory_.copy_of(case_.routing(number));
    in.top_k_weights = memory_.random(case_.tokens * s.top_k, DType::kF32, 1.0, ++stream);
    const auto matrices = [&](std::vector<const void*>& base, std::int64_t out,
                              std::int64_t width) {
      const auto* all = static_cast<const char*>(random(e * out * width, 0.1));
      for (std::int64_t x = 0; x < e; ++x) {
        base.push_back(all + x * out * width * dtype_size(case_.dtype));
      }
      return experts::ProjectionWeights{base, width};
    };
    in.weights.gate_up = matrices(set.gate_up_base, 2 * i, h);
    in.weights.down = matrices(set.down_base, h, i);
    if (s.gpt_oss) {
      in.weights.gate_up_bias = random(e * 2 * i, 0.1);
      in.weights.down_bias = random(e * h, 0.1);
    }
    if (case_.mode != LayerMode::kLora) return;
    const std::int64_t rank = case_.lora_rank * e;
    in.gate_up_lora = {random(rank * h, 0.1), random(rank * 2 * i, 0.1)};
    in.down_lora = {random(rank * i, 0.1), random(rank * h, 0.1)};
  }

  const LayerCase& case_;
  CudaMemory memory_;
  std::vector<std::unique_ptr<InputSet>> sets_;
  void* output_ = nullptr;
  experts::ExpertsGradients gradients_;
};

// The layer's base products without anything around them: rows spread evenly over the experts, one
// batched product each, on the weights of a set.
class Dense {
 public:
  explicit Dense(const LayerCase& c)
      : case_(c),
        batch_(std::min(c.shape.num_experts, c.tokens * c.shape.top_k)),
        rows_(ceil_div(c.tokens * c.shape.top_k, batch_)) {
    const std::int64_t rows = batch_ * rows_;
    narrow_ = memory_.random(rows * c.shape.hidden, c.dtype, 2.0, 7);
    wide_ = memory_.random(rows * 2 * c.shape.inter, c.dtype, 2.0, 8);
    inner_ = memory_.random(rows * c.shape.inter, c.dtype, 2.0, 9);
    out_ = memory_.bytes(rows * std::max(2 * c.shape.inter, c.shape.hidden) * dtype_size(c.dtype));
  }
  // Of the layer's FLOPs, what these products have.
  double share_of_flops() const {
    return static_cast<double>(batch_ * rows_) /
           static_cast<double>(case_.tokens * case_.shape.top_k);
  }

  void run(const InputSet& set, const experts::ExpertsGradients& gradients, void* stream) const {
    const std::int64_t h = case_.shape.hidden, i = case_.shape.inter;
    const void* first = set.gate_up_base[0];
    const void* second = set.down_base[0];
    by_matrix(narrow_, first, 2 * i, h, true, stream);
    by_matrix(inner_, second, h, i, true, stream);
    if (case_.mode == LayerMode::kForward) return;
    by_matrix(narrow_, second, i, h, false, stream);
    by_matrix(wide_, first, h, 2 * i, false, stream);
    if (case_.mode == LayerMode::kLora) return;
    by_rows(wide_, 2 * i, narrow_, h, gradients.gate_up, stream);
    by_rows(narrow_, h, inner_, i, gradients.down, stream);
  }

 private:
  cuda::DenseProduct product() const {
    cuda::DenseProduct p;
    p.batch = batch_;
    p.is_f32 = p.c_is_f32 = case_.dtype == DType::kF32;
    return p;
  }
  void by_matrix(const void* x,
                 const void* w,
                 std::int64_t n,
                 std::int64_t k,
                 bool k_major,
                 void* stream) const {
    cuda::DenseProduct p = product();
    p.m = rows_, p.n = n, p.k = k;
    p.a = x, p.a_stride = k, p.a_batch = rows_ * k;
    p.b = w, p.b_stride = k_major ? k : n, p.b_batch = n * k, p.b_transposed = k_major;
    p.c = out_, p.c_stride = n, p.c_batch = rows_ * n;
    cublas_.run(p, stream);
  }
  void by_rows(const void* left,
               std::int64_t m,
               const void* right,
               std::int64_t n,
               void* out,
               void* stream) const {
    cuda::DenseProduct p = product();
    p.m = m, p.n = n, p.k = rows_;
    p.a = left, p.a_stride = m, p.a_batch = rows_ * m, p.a_transposed = true;
    p.b = right, p.b_stride = n, p.b_batch = rows_ * n;
    p.c = out, p.c_stride = n, p.c_batch = m * n;
    cublas_.run(p, stream);
  }

  const LayerCase& case_;
  std::int64_t batch_, rows_;
  cuda::Cublas cublas_;
  CudaMemory memory_;
  void *narrow_ = nullptr, *wide_ = nullptr, *inner_ = nullptr, *out_ = nullptr;
};

// Work for each input set.
using Works = std::vector<std::unique_ptr<CudaWork>>;

// What the plans of a case share: no two run at the same time.
struct Space {
  std::span<std::byte> saved, scratch;
};

struct Needed {
  std::int64_t saved = 0, scratch = 0;

  Needed(const experts::ExpertsPlan& plan, std::int64_t tokens) {
    const experts::ExpertsSizes sizes = plan.sizes(tokens);
    saved = sizes.saved_bytes;
    scratch = std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes);
  }
};

struct Candidate {
  Works works;
  std::vector<double> times, shares;
};

std::unique_ptr<Candidate> make_candidate(const LayerCase& c,
                                          const experts::ExpertsPlan& plan,
                                          const Buffers& buffers,
                                          const Space& space,
                                          cudaStream_t stream) {
  auto candidate = std::make_unique<Candidate>();
  const experts::CudaStream to{c.cuda_device, stream};
  for (const auto& set : buffers.sets()) {
    candidate->works.push_back(
        std::make_unique<CudaWork>(stream, [&c, &plan, &buffers, &space, in = set.get(), to] {
          plan.forward({in->inputs, buffers.output(), space.saved, space.scratch}, to);
          if (c.mode == LayerMode::kForward) return;
          plan.backward({in->inputs, in->d_output, space.saved, space.scratch, buffers.gradients()},
                        to);
        }));
  }
  return candidate;
}

class Stream {
 public:
  Stream() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// By turns: the dense products, then each candidate, each on the next input set. Returns the dense
// products' milliseconds.
std::vector<double> take_turns(const Works& dense,
                               double dense_share,
                               std::vector<std::unique_ptr<Candidate>>& candidates,
                               double milliseconds) {
  constexpr std::size_t kSettle = 2;  // turns until clocks settle
  std::vector<double> dense_times;
  std::size_t next = 0;
  double spent = 0;
  for (std::size_t turn = 0; turn < kSettle + 3 || spent < milliseconds; ++turn) {
    double bound = 0;
    if (!dense.empty()) {
      bound = dense[next++ % dense.size()]->milliseconds() / dense_share;
      spent += bound;
      if (turn >= kSettle) dense_times.push_back(bound);
    }
    for (const auto& one : candidates) {
      if (one == nullptr) continue;
      const double ms = one->works[next++ % one->works.size()]->milliseconds();
      spent += ms;
      if (turn < kSettle) continue;
      one->times.push_back(ms);
      one->shares.push_back(bound / ms);
    }
  }
  return dense_times;
}

LayerTiming timing_of(const Candidate& one, const Needed& needed) {
  return {.ms = quantile(one.times, 0.5),
          .ms_p10 = quantile(one.times, 0.1),
          .ms_p90 = quantile(one.times, 0.9),
          .share_of_dense = quantile(one.shares, 0.5),
          .saved_bytes = needed.saved,
          .scratch_bytes = needed.scratch,
          .repeats = static_cast<int>(one.times.size()),
          .as_graph = one.works[0]->is_graph()};
}

}  // namespace

CudaTimings time_layer_on_cuda(const LayerCase& c,
                               std::span<const experts::ExpertsPlan> plans,
                               double seconds) {
  const cuda::DeviceGuard guard(c.cuda_device);
  const Stream stream;
  const Buffers buffers(c);
  CudaTimings result;
  result.why_no_dense = cuda::why_no_cublas();
  std::optional<Dense> dense;
  Works bounds;
  if (result.why_no_dense.empty()) {
    dense.emplace(c);
    for (const auto& set : buffers.sets()) {
      bounds.push_back(std::make_unique<CudaWork>(stream.get(), [&, in = set.get()] {
        dense->run(*in, buffers.gradients(), stream.get());
      }));
    }
  }

  constexpr std::int64_t kReserve = 1 << 30;  // for graphs, and what cuBLAS takes
  const std::int64_t room = CudaMemory::free_bytes() - kReserve;
  std::int64_t saved = 0, scratch = 0;
  for (const experts::ExpertsPlan& plan : plans) {
    const Needed needed(plan, c.tokens);
    result.of_plans.emplace_back();
    if (needed.saved + needed.scratch > room) {
      result.of_plans.back().why_not = str("needs ", needed.saved + needed.scratch,
                                           " bytes beside its inputs, and ", room, " are free");
      continue;
    }
    saved = std::max(saved, needed.saved), scratch = std::max(scratch, needed.scratch);
  }
  CudaMemory memory;
  const auto span = [&](std::int64_t bytes) {
    return std::span<std::byte>(static_cast<std::byte*>(memory.bytes(bytes)),
                                static_cast<std::size_t>(bytes));
  };
  const Space space{span(saved), span(scratch)};
  std::vector<std::unique_ptr<Candidate>> candidates(plans.size());
  bool any = false;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (!result.of_plans[i].why_not.empty()) continue;
    candidates[i] = make_candidate(c, plans[i], buffers, space, stream.get());
    any = true;
  }
  if (!any) return result;
  const std::vector<double> dense_times =
      take_turns(bounds, dense ? dense->share_of_flops() : 1, candidates,
                 1e3 * seconds * static_cast<double>(plans.size()));
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (candidates[i] == nullptr) continue;
    LayerTiming& timing = result.of_plans[i].timing;
    timing = timing_of(*candidates[i], Needed(plans[i], c.tokens));
    if (!dense_times.empty()) timing.dense_ms = quantile(dense_times, 0.5);
  }
  return result;
}

}  // namespace moesmith::cli
