// SPDX-License-Identifier: Apache-2.0
// One experts layer at real models' sizes: forward, LoRA forward + backward (frozen weights) and
// full forward + backward, against the roof of the machine (measure.h, cost.h). One JSON line per
// case; every implementation of the table can be named. Correctness is tests/experts.
//   experts_bench --implementation all --shape qwen3-30b-a3b --tokens 1,1024 --mode forward,lora
#include <string>
#include <vector>

#include "common/memory.h"
#include "experts/case.h"
#include "experts/case_program.h"
#include "experts/cost.h"
#include "experts/layer.h"
#include "experts/measure.h"

namespace moesmith::bench {
namespace {

JsonLine measure_case(const Case& c, ThreadPool& pool) {
  const experts::ExpertsPlan plan = plan_experts(request_of(c));
  check_memory(layer_bytes(c, plan, pool.num_threads()));
  reset_peak();
  const std::int64_t base = resident_bytes();
  Layer layer(c, plan, pool);
  reset_peak();  // packing held the plain weights too; a model packs a layer at a time
  for (int repeat = 0; repeat < c.bare; ++repeat) layer.run(repeat, plan, pool);
  if (c.bare > 0) return line_of(c, implementation_of(plan)).number("bare", c.bare);
  const double hit = layer.experts_hit();
  const Work work{flops_of(c), bytes_of(c, hit)};
  const Measurement m = measure(c, work, pool, [&](int repeat) { layer.run(repeat, plan, pool); });
  JsonLine line = line_of(c, implementation_of(plan));
  add_memory(line, c, hit, base, layer.further_copies_bytes(), m, pool);
  constexpr double kMib = 1.0 / (1 << 20);
  line.number("weights_mib", static_cast<double>(weight_bytes(c)) * kMib, 1)
      .number("packed_mib", static_cast<double>(plan.packed_bytes()) * kMib, 1)
      .number("saved_mib", static_cast<double>(layer.saved_bytes()) * kMib, 1)
      .number("scratch_mib", static_cast<double>(layer.scratch_bytes()) * kMib, 1);
  add_speed(line, m, work);
  return line;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  return moesmith::bench::run_program("experts_bench", {argv + 1, argv + argc},
                                      moesmith::bench::measure_case);
}
