// SPDX-License-Identifier: Apache-2.0
// A peer of experts_bench: ggml's mul_mat_id for the three forward products (gate, up, down) of a
// layer, as llama.cpp has them; activation, routing weights and the sum over slots are left out.
// ggml takes the tokens in f32 and rounds them to the weights' type itself; it has no backward pass
// of mul_mat_id. Built by bench/peers/ggml.sh.
//   ggml_experts --shape olmoe-1b-7b --tokens 16,1024 --mode forward --dtype bf16,f32    (--help)
#include <algorithm>
#include <cstring>
#include <vector>

#include "common/memory.h"
#include "experts/case_program.h"
#include "experts/cost.h"
#include "experts/layer.h"
#include "experts/routing_sets.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

constexpr int kRoutingSets = 8;

class GgmlLayer {
 public:
  explicit GgmlLayer(const Case& c) : sets_(routing_sets(c, kRoutingSets)) {
    const std::int64_t e = c.size.num_experts, h = c.size.hidden, i = c.size.inter;
    const std::int64_t t = c.tokens, k = c.size.top_k;
    const ggml_type type = c.dtype == DType::kBF16 ? GGML_TYPE_BF16 : GGML_TYPE_F32;
    const auto slot_bytes = static_cast<std::size_t>(4 * t * k * (h + 2 * i) + 4 * t * h);
    context_ = ggml_init({.mem_size = static_cast<std::size_t>(weight_bytes(c)) + slot_bytes +
                                      (std::size_t{64} << 20),
                          .mem_buffer = nullptr,
                          .no_alloc = false});
    if (context_ == nullptr) throw Error(ErrorCode::kOutOfMemory, "ggml: no memory");
    ggml_tensor* const gate = filled(ggml_new_tensor_3d(context_, type, h, i, e), c.dtype, 1);
    ggml_tensor* const up = filled(ggml_new_tensor_3d(context_, type, h, i, e), c.dtype, 2);
    ggml_tensor* const down = filled(ggml_new_tensor_3d(context_, type, i, h, e), c.dtype, 3);
    ggml_tensor* const hidden =
        filled(ggml_new_tensor_3d(context_, GGML_TYPE_F32, h, 1, t), DType::kF32, 4);
    index_ = ggml_new_tensor_2d(context_, GGML_TYPE_I32, k, t);
    graph_ = ggml_new_graph(context_);
    ggml_tensor* const inter = ggml_mul_mat_id(context_, gate, hidden, index_);
    ggml_build_forward_expand(graph_, ggml_mul_mat_id(context_, up, hidden, index_));
    ggml_build_forward_expand(graph_, ggml_mul_mat_id(context_, down, inter, index_));
  }
  ~GgmlLayer() { ggml_free(context_); }
  GgmlLayer(const GgmlLayer&) = delete;
  GgmlLayer& operator=(const GgmlLayer&) = delete;

  void run(int repeat, int num_threads) {
    const Tensor& set = sets_[static_cast<std::size_t>(repeat % kRoutingSets)];
    std::copy_n(set.data<std::int64_t>(), set.numel(), static_cast<std::int32_t*>(index_->data));
    ggml_cplan plan = ggml_graph_plan(graph_, num_threads, nullptr);
    work_.resize(plan.work_size);
    plan.work_data = work_.data();
    ggml_graph_compute(graph_, &plan);
  }

  double experts_hit(std::int64_t num_experts) const {
    double hit = 0;
    for (const Tensor& set : sets_) {
      for (const std::int64_t rows : rows_per_expert(set, num_experts)) hit += rows > 0;
    }
    return hit / kRoutingSets;
  }

 private:
  static ggml_tensor* filled(ggml_tensor* tensor, DType dtype, std::uint64_t seed) {
    const Tensor values = random_tensor({ggml_nelements(tensor)}, dtype, seed);
    std::memcpy(tensor->data, values.raw(), ggml_nbytes(tensor));
    return tensor;
  }

  std::vector<Tensor> sets_;
  ggml_context* context_;
  ggml_tensor* index_;
  ggml_cgraph* graph_;
  std::vector<std::uint8_t> work_;
};

JsonLine measure_case(const Case& c, ThreadPool& pool) {
  if (c.isa != detected_isa() || c.mode != Mode::kForward) {
    throw Error(ErrorCode::kUnsupported, "ggml: only the best isa, forward");
  }
  check_memory(2 * weight_bytes(c) +
               8 * c.tokens * c.size.top_k * (c.size.hidden + 2 * c.size.inter));
  reset_peak();
  const std::int64_t base = resident_bytes();
  GgmlLayer layer(c);
  const double hit = layer.experts_hit(c.size.num_experts);
  const Work work{flops_of(c), bytes_of(c, hit)};
  const Measurement m =
      measure(c, work, pool, [&](int repeat) { layer.run(repeat, pool.num_threads()); });
  JsonLine line = line_of(c, "ggml mul_mat_id, products only");
  add_memory(line, c, hit, base, 0, m, pool);
  add_speed(line, m, work);
  return line;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  return moesmith::bench::run_program("ggml_experts", {argv + 1, argv + argc},
                                      moesmith::bench::measure_case);
}
