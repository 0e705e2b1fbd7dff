// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/tables.h"

namespace moesmith::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

train::StepReport report() {
  train::StepReport r;
  r.step = 12;
  r.total_steps = 400;
  r.epoch = 0.03;
  r.loss = 2.34567;
  r.lr = 1.9e-4;
  r.grad_norm = 0.5;
  r.tokens_per_second = 1234.4;
  r.eta_seconds = 62;
  return r;
}

TEST(progress, durations_and_counts_are_readable) {
  EXPECT_EQ(duration_text(0), "0:00");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(3723), "1:02:03");
  EXPECT_EQ(duration_text(-1), "-:--");
  EXPECT_EQ(duration_text(1e300 * 1e300), "-:--");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(-1234567), "-1,234,567");
}

TEST(progress, the_bar_fills_and_fits_the_width) {
  train::StepReport r = report();
  EXPECT_EQ(status_text(r, 80),
            "step 12/400 [-----------------] loss 2.3457  lr 1.90e-04  1,234 tok/s  ETA 1:02");
  r.step = 400;
  EXPECT_THAT(status_text(r, 200), HasSubstr("[########################################]"));
  for (int width : {10, 40, 60, 80, 120}) {
    r.step = 200;
    const std::string line = status_text(r, width);
    EXPECT_TRUE(static_cast<int>(line.size()) < width || line.find('[') == std::string::npos)
        << line;
  }
}

TEST(progress, the_profile_is_a_table_with_a_sum) {
  const std::vector<train::ProfilePart> parts = {{"experts", 1.5, 0.75, 321.4},
                                                 {"attention core", 0.5, 0.25, std::nullopt}};
  EXPECT_THAT(profile_table(parts, 19),
              ElementsAre("  time of a step, mean of 19   seconds     share   GFLOP/s",
                          "  experts                       1.5000    75.0 %       321",
                          "  attention core                0.5000    25.0 %",
                          "  all                           2.0000   100.0 %"));
}

TEST(progress, a_plain_line_has_every_number) {
  EXPECT_EQ(
      step_line(report()),
      "step 12/400  epoch 0.03  loss 2.3457  grad_norm 0.500  lr 1.90e-04  1,234 tok/s  ETA 1:02");
  train::StepReport r = report();
  r.aux_loss = 0.125;
  EXPECT_THAT(step_line(r), HasSubstr("aux_loss 0.1250"));
}

TEST(tables, trained_tensors_share_a_row_over_layers) {
  std::vector<train::TrainedTensor> tensors;
  for (int layer : {0, 1, 2, 5}) {
    const std::string prefix = "base_model.model.model.layers." + std::to_string(layer) + ".";
    tensors.push_back({prefix + "self_attn.q_proj.lora_A.weight", {4, 8}, 32});
    tensors.push_back({prefix + "mlp.experts.base_layer.lora_B.weight",
                       {16, layer == 5 ? 8 : 4},
                       layer == 5 ? 128 : 64});
  }
  tensors.push_back({"model.norm.weight", {8}, 8});
  EXPECT_THAT(
      trained_table(tensors),
      ElementsAre("  trained tensor                               shape     tensors   parameters",
                  "  layers.{0-2,5}.self_attn.q_proj.lora_A       [4, 8]          4          128",
                  "  layers.{0-2}.mlp.experts.base_layer.lora_B   [16, 4]         3          192",
                  "  layers.5.mlp.experts.base_layer.lora_B       [16, 8]         1          128",
                  "  norm.weight                                  [8]             1            8",
                  "  all                                                          9          456"));
}

TEST(tables, memory_says_what_counts) {
  train::MemoryPlan plan;
  plan.items = {{"weights", 58'000'000'000, false}, {"adapter", 1 << 20, true}, {"data", 0, true}};
  plan.peak_bytes = 1 << 20;
  plan.available_bytes = std::int64_t{1} << 30;
  const auto lines = memory_table(plan);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[1], HasSubstr("not counted"));
  EXPECT_THAT(lines[3], HasSubstr("1.0 MiB"));
  EXPECT_THAT(lines[3], HasSubstr("of 1.0 GiB available"));
}

}  // namespace
}  // namespace moesmith::cli
