// SPDX-License-Identifier: Apache-2.0
#include "gemm_fixture.h"

namespace moesmith::kernels::gemm {

void expect_matches_reference(const Case& c, ThreadPool& pool) {
  Problem problem(c);
  Case exact_case = c;
  exact_case.c_dtype = DType::kF32;
  Problem exact(exact_case);
  if (c.accumulate) {  // the oracle starts from the C that was really stored
    for (std::int64_t i = 0; i < c.m; ++i) {
      for (std::int64_t j = 0; j < c.n; ++j) {
        const float value = problem.out.at(i, j);
        std::memcpy(static_cast<char*>(exact.out.data()) + (i * exact.out.stride() + j) * 4, &value,
                    4);
      }
    }
  }
  run_reference(exact.args(exact.out));
  run(problem.args(problem.out), pool);
  std::int64_t failures = 0, worst_i = 0, worst_j = 0;
  double worst = 0;
  for (std::int64_t i = 0; i < c.m; ++i) {
    for (std::int64_t j = 0; j < c.n; ++j) {
      const double want = exact.out.at(i, j), got = problem.out.at(i, j);
      const double ratio = std::abs(got - want) / tolerance(c, want);
      if (ratio <= 1) continue;
      if (failures++ == 0 || ratio > worst || std::isnan(ratio)) {
        worst = ratio, worst_i = i, worst_j = j;
      }
    }
  }
  EXPECT_EQ(failures, 0) << c.name() << ": worst at (" << worst_i << ", " << worst_j << "): got "
                         << problem.out.at(worst_i, worst_j) << ", want "
                         << exact.out.at(worst_i, worst_j) << ", " << worst
                         << " times the tolerance";
  EXPECT_TRUE(problem.out.guards_untouched()) << c.name() << ": wrote outside of C";
}

}  // namespace moesmith::kernels::gemm
