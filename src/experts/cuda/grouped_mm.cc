// SPDX-License-Identifier: Apache-2.0
// grouped_mm on a GPU: CUTLASS's grouped product, whose sizes stay on the device.
#include "core/text.h"
#include "experts/cuda/limits.h"
#include "experts/cuda/unfused.h"
#include "experts/implementation.h"
#include "kernels/cuda/grouped_mm/product.h"
#include "moesmith/error.h"

namespace moesmith::experts::on_cuda {
namespace {

namespace gpu = kernels::gpu;

class CutlassProducts final : public GroupedProducts {
 public:
  explicit CutlassProducts(const ExpertsRequest& request)
      : f32_(request.compute_dtype == DType::kF32) {}

  void carve(Carver& carver, const ExpertsRequest& request) override {
    table_ = carver.bytes(gpu::problem_table_bytes(static_cast<int>(request.num_experts)));
  }

  void begin(const gpu::Rows& rows, const CudaStream& stream) override {
    rows_ = rows;
    stream_ = stream.stream;
  }

  void run(const ByMatrix& p) override {
    gpu::run_grouped(rows_,
                     gpu::GroupedByMatrix{p.a, p.a_stride, p.b, static_cast<int>(p.n),
                                          static_cast<int>(p.k), p.sums, p.stride, p.accumulate},
                     f32_, table_, stream_);
  }

  void run(const ByRows& p) override {
    gpu::run_grouped(rows_,
                     gpu::GroupedByRows{p.left, p.right, static_cast<int>(p.m),
                                        static_cast<int>(p.n), p.out, p.out_is_f32, p.accumulate},
                     f32_, table_, stream_);
  }

 private:
  bool f32_;
  gpu::Rows rows_;
  void* table_ = nullptr;
  void* stream_ = nullptr;
};

Refusal refuses(const ExpertsRequest& request) {
  if (const Refusal why = beyond_common_limits(request)) return why;
  if (const Refusal why = mixes_dtypes(request)) return why;
  if (request.compute_dtype != DType::kBF16) return std::nullopt;
  if (request.hidden % 8 != 0 || request.inter % 8 != 0) {
    return str("in bf16 takes hidden and inter divisible by 8, got ", request.hidden, " and ",
               request.inter);
  }
  if (!request.aligned_weights) {
    return "in bf16 needs weights whose addresses and row strides are multiples of 16 bytes "
           "(aligned_weights)";
  }
  return std::nullopt;
}

std::string describe(const ExpertsRequest& request) {
  return str("CUTLASS's grouped product", on_device(request),
             request.compute_dtype == DType::kF32 ? ", f32 without tensor cores" : "");
}

ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens) {
  CutlassProducts products(request);
  return unfused_sizes(request, num_tokens, products);
}

// What the kernels read and write by 16 bytes beside aligned_weights.
void check_aligned(const ExpertsRequest& request, const char* name, const void* pointer) {
  if (request.compute_dtype != DType::kBF16 ||
      reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0) {
    return;
  }
  throw Error(ErrorCode::kInvalidInput, str("experts call: ", name,
                                            ": got an address that is no multiple of 16, expected "
                                            "one for grouped_mm in bf16"));
}

void forward(const ExpertsRequest& request, const ForwardArgs& args, const CudaStream& stream) {
  check_aligned(request, "scratch", args.scratch.data());
  check_aligned(request, "saved", args.saved.data());
  CutlassProducts products(request);
  unfused_forward(request, args, stream, products);
}

void backward(const ExpertsRequest& request, const BackwardArgs& args, const CudaStream& stream) {
  check_aligned(request, "scratch", args.scratch.data());
  check_aligned(request, "saved", args.saved.data());
  const WantedGradients& want = request.wanted;
  if (want.gate_up.wanted()) {
    check_aligned(request, "gradients.gate_up", args.gradients.gate_up);
  }
  if (want.down.wanted()) check_aligned(request, "gradients.down", args.gradients.down);
  CutlassProducts products(request);
  unfused_backward(request, args, stream, products);
}

}  // namespace

const CudaImplementation kGroupedMm = {.refuses = refuses,
                                       .describe = describe,
                                       .sizes = sizes,
                                       .forward = forward,
                                       .backward = backward};

}  // namespace moesmith::experts::on_cuda
