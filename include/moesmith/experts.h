// SPDX-License-Identifier: Apache-2.0
// The experts layer: y[t] = sum_k w[t,k] * E_{index[t,k]}(x[t]), forward and backward, with LoRA.
// One contract for every implementation; docs/experts.md has the formulas. A request is planned
// once and run many times on buffers that the caller supplies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moesmith/dtype.h"

namespace moesmith {
class ThreadPool;
}

namespace moesmith::experts {

enum class Device { kCpu, kCuda };

// Where a call of a kCuda plan runs. Work is queued; the caller synchronises.
struct CudaStream {
  int device = 0;          // its ordinal
  void* stream = nullptr;  // a cudaStream_t of that device; nullptr: its default stream
};

enum class ActivationKind { kSilu, kGelu, kGeluTanh, kRelu, kRelu2 };

// gated:     a = act(min(g, gate_max)) * (clamp(u, -up_limit, up_limit) + up_shift)
// not gated: a = act(min(g, gate_max))
// kSilu is g * sigmoid(alpha * g); alpha belongs to no other kind. gpt-oss: kSilu, gate_max 7,
// up_limit 7, alpha 1.702, up_shift 1. DeepSeek-V4: kSilu, gate_max and up_limit.
struct ActivationSpec {
  ActivationKind kind = ActivationKind::kSilu;
  bool gated = true;
  std::optional<float> gate_max;
  std::optional<float> up_limit;
  float alpha = 1.0f;
  float up_shift = 0.0f;
};

// How the gate and up projections lie in memory (without effect when ungated).
//   kConcatenated  one matrix, gate rows first
//   kInterleaved   one matrix, rows g0, u0, g1, u1, ...
//   kSeparate      two matrices, as checkpoints with one tensor per expert have them
// Biases, LoRA's B, h and every gradient are in the order of the one matrix; for kSeparate that is
// the concatenated one.
enum class GateUpLayout { kConcatenated, kInterleaved, kSeparate };

// LoRA on one projection: delta[e] = scale * B_e A_e, in PEFT's layout (since 0.19.1).
//   A [lora_rank * E, in], row e * lora_rank + j;  B [out, lora_rank * E], column j * E + e.
struct LoraSpec {
  std::int64_t lora_rank = 0;  // 0: none
  float lora_scale = 1.0f;
  DType dtype = DType::kF32;  // kF32 or kBF16; kF64 with a kF64 compute_dtype
};

enum class GradMode { kNone, kOverwrite, kAccumulate };

// One wanted gradient. What is not wanted is neither computed nor allocated. Sums are f32 in any
// case; `dtype` is what is stored: kF32, or the dtype of the thing itself.
struct GradSpec {
  GradMode mode = GradMode::kNone;
  DType dtype = DType::kF32;

  bool wanted() const noexcept { return mode != GradMode::kNone; }
};

struct WantedGradients {
  GradSpec hidden, top_k_weights;
  GradSpec gate_up, down;            // base weights
  GradSpec gate_up_bias, down_bias;  // only where the bias exists
  GradSpec gate_up_a, gate_up_b, down_a, down_b;

  bool any() const noexcept;
};

// Everything that a plan depends on. Results never depend on the number of threads.
struct ExpertsRequest {
  std::string implementation = "auto";  // or a name of the table: explain_experts() lists them
  Device device = Device::kCpu;
  int cuda_device = 0;  // kCuda: the ordinal of the GPU that the plan is for

  std::int64_t num_experts = 0, top_k = 0, hidden = 0, inter = 0;
  std::int64_t max_tokens = 0;  // largest T of a call; decides `auto` and bounds the buffers
  // Largest number of slots with an index in [0, E) in one call; 0: max_tokens * top_k. Under
  // expert parallelism it may be smaller; a call that has more throws Error(kInvalidInput). On
  // CUDA, where the host does not see the indices, output and gradients of such a call are NaN.
  std::int64_t max_rows = 0;
  bool expert_parallel = false;  // many indices will lie outside [0, E)

  DType compute_dtype = DType::kF32;        // of hidden, output and h: kF32, kBF16; kF64 for checks
  DType weight_dtype = DType::kF32;         // of weights and biases: kF32, kBF16 or kF64
  DType index_dtype = DType::kI64;          // kI64 or kI32
  DType route_weights_dtype = DType::kF32;  // kF32 or kBF16 or kF64
  DType d_output_dtype = DType::kF32;       // kF32 or compute_dtype

  ActivationSpec activation;
  GateUpLayout gate_up_layout = GateUpLayout::kConcatenated;
  bool transposed = false;  // weights are [in, out] instead of [out, in]
  bool gate_up_bias = false, down_bias = false;
  // Every weight's address and row stride is a multiple of 16 bytes: `sonicmoe` needs it.
  bool aligned_weights = false;
  LoraSpec gate_up_lora, down_lora;

  WantedGradients wanted;
  // Frozen weights are packed once, by ExpertsPlan::pack(), and calls read the copies. Results do
  // not change by a bit. Not with gradients of the weights themselves.
  bool packed_weights = false;
  bool recompute_h = false;  // do not save h between forward and backward: compute it twice
  bool double_sums = false;  // `eager` only: products are summed in double

  // Rows of the first projection: 2 * inter when gated, else inter.
  std::int64_t gate_up_width() const noexcept { return activation.gated ? 2 * inter : inter; }
};

// One projection of every expert, read in place: element (row, col) of expert e is
// base[e][row * row_stride + col]. Pointers need only be aligned to their element, and may point
// into a mapped file.
struct ProjectionWeights {
  std::span<const void* const> base;  // [E]
  std::int64_t row_stride = 0;        // in elements
};

struct ExpertsWeights {
  ProjectionWeights gate_up;           // [2I,H]; kSeparate: the gate [I,H]; ungated: up_proj [I,H]
  ProjectionWeights up;                // kSeparate only: [I,H]
  ProjectionWeights down;              // [H,I]
  const void* gate_up_bias = nullptr;  // [E,2I] (ungated [E,I]), contiguous
  const void* down_bias = nullptr;     // [E,H], contiguous; added before the routing weight
};

struct LoraFactors {
  const void* a = nullptr;  // [lora_rank * E, in]
  const void* b = nullptr;  // [out, lora_rank * E]
};

// What forward and backward of one call both read; the caller keeps it unchanged in between. With
// kCuda every pointer of a call is a device pointer; only the spans of base pointers lie in host
// memory, and are read before the call returns.
struct ExpertsInputs {
  std::int64_t num_tokens = 0;          // T, may be 0
  const void* hidden = nullptr;         // [T,H] compute_dtype
  const void* top_k_index = nullptr;    // [T,K]; outside [0, E): adds nothing, gradients 0
  const void* top_k_weights = nullptr;  // [T,K]
  ExpertsWeights weights;
  // What pack() made of `weights`, at least packed_bytes(); nullptr where that is 0.
  const std::byte* packed_weights = nullptr;
  LoraFactors gate_up_lora, down_lora;
};

// Buffers hold at least what sizes() states for this T and pool; 64-byte alignment is best.
struct ForwardArgs {
  ExpertsInputs inputs;
  void* output = nullptr;        // [T,H] compute_dtype, overwritten
  std::span<std::byte> saved;    // belongs to this call until its backward
  std::span<std::byte> scratch;  // free again when forward returns
};

// Targets of the wanted gradients; the others are not looked at. Dense, in the layout of the fused
// parameter: gate_up [E,2I,H] ([E,H,2I] when transposed), down [E,H,I] ([E,I,H]).
struct ExpertsGradients {
  void* hidden = nullptr;         // [T,H]
  void* top_k_weights = nullptr;  // [T,K]
  void* gate_up = nullptr;
  void* down = nullptr;
  void* gate_up_bias = nullptr;  // [E,2I]
  void* down_bias = nullptr;     // [E,H]
  void* gate_up_a = nullptr;     // PEFT's layout, as the factors
  void* gate_up_b = nullptr;
  void* down_a = nullptr;
  void* down_b = nullptr;
};

struct BackwardArgs {
  ExpertsInputs inputs;
  const void* d_output = nullptr;    // [T,H] d_output_dtype
  std::span<const std::byte> saved;  // as forward left it; not changed
  std::span<std::byte> scratch;
  ExpertsGradients gradients;
};

struct ExpertsSizes {
  std::int64_t saved_bytes = 0;  // 0 when no gradient is wanted
  std::int64_t forward_scratch_bytes = 0;
  std::int64_t backward_scratch_bytes = 0;  // 0 when no gradient is wanted
};

struct Implementation;  // a row of the table, internal

// One implementation bound to one request. Immutable and cheap to copy; calls on different buffers
// may run at the same time from different pools.
class ExpertsPlan {
 public:
  ExpertsPlan(ExpertsRequest request, const Implementation* implementation);

  const ExpertsRequest& request() const noexcept { return request_; }
  std::string_view implementation() const noexcept;
  // One line: the implementation, how it runs here, and the shape.
  std::string to_string() const;

  // For calls of up to num_tokens tokens on a pool of up to num_threads; kCuda plans take 1.
  ExpertsSizes sizes(std::int64_t num_tokens, int num_threads = 1) const;

  // Bytes of the packed copies of all experts that calls read with packed_weights; 0 without, and
  // for an implementation that reads weights only as they lie. A plan of the same request that
  // wants no gradients reads the copies made for one that does.
  std::int64_t packed_bytes() const;
  // Fills `packed`, of packed_bytes(); 64-byte alignment is best. For calls on this machine with
  // the same instruction set; they no longer read gate_up, up and down.
  void pack(const ExpertsWeights& weights, std::span<std::byte> packed, ThreadPool& pool) const;

  // Throws Error(kInvalidInput) on a missing pointer, a buffer that is too small, more tokens than
  // max_tokens or more rows than max_rows, before anything is written.
  void forward(const ForwardArgs& args, ThreadPool& pool) const;
  void backward(const BackwardArgs& args, ThreadPool& pool) const;
  // A kCuda plan's: queued on the stream, without allocation or synchronisation, so that a CUDA
  // graph may capture it. The current device is what it was when they return. `eager` waits for the
  // stream once a call and throws Error(kUnsupported) while it is captured.
  void forward(const ForwardArgs& args, const CudaStream& stream) const;
  void backward(const BackwardArgs& args, const CudaStream& stream) const;

 private:
  ExpertsRequest request_;
  const Implementation* implementation_;
};

// One row of the table seen against a request.
struct Verdict {
  std::string name;
  bool accepted = false;
  std::string text;  // how it would run, or the single reason why it does not
};

// Exactly one plan, or an Error: kInvalidInput for a request that contradicts itself or a name that
// is not in the table; kUnsupported, naming every implementation with its reason, when the named
// one (or, for "auto", each) refuses. Nothing is ever replaced by another implementation.
ExpertsPlan plan_experts(const ExpertsRequest& request);

// Every implementation in the table's order, best first.
std::vector<Verdict> explain_experts(const ExpertsRequest& request);

}  // namespace moesmith::experts
