// SPDX-License-Identifier: Apache-2.0
// A peer of experts_bench: oneDNN with every expert's weights reordered once into the blocked
// layout that it likes best, one matmul per expert and 256 gathered rows. Products only: no
// activation, no routing weights, no sum over slots, no LoRA; `lora` adds the two products of the
// backward pass to the inputs, over a second packed copy of the weights. What is left out makes
// this a bound for a layer over the library.
//   onednn_packed_bench --shape olmoe-1b-7b --tokens 1024 --mode forward,lora    (--help)
#include <cstdio>
#include <string>
#include <vector>

#include "common/memory.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "experts/case.h"
#include "experts/case_program.h"
#include "experts/cost.h"
#include "experts/measure.h"
#include "experts/onednn_packed.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

JsonLine measure_case(const Case& c, ThreadPool& pool) {
  if (c.isa != detected_isa() || c.mode == Mode::kFull) {
    throw Error(ErrorCode::kUnsupported, "onednn packed: only the best isa, forward and lora");
  }
  const std::int64_t copies = c.mode == Mode::kLora ? 2 : 1;
  check_memory((copies + 1) * weight_bytes(c) + slot_bytes(c));
  reset_peak();
  const std::int64_t base = resident_bytes();
  OneDnnPacked layer(c, pool);
  const double hit = layer.experts_hit();
  // The same rows and weights as experts_bench; the factors are not there.
  Case plain = c;
  plain.lora_rank = 0;
  const Work work{flops_of(c), bytes_of(plain, hit)};
  const Measurement m = measure(c, work, pool, [&](int repeat) { layer.run(repeat, pool); });
  JsonLine line = line_of(c, "onednn packed, products only");
  add_memory(line, c, hit, base, 0, m, pool);
  add_speed(line, m, work);
  return line;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  return moesmith::bench::run_program("onednn_packed_bench", {argv + 1, argv + argc},
                                      moesmith::bench::measure_case);
}
