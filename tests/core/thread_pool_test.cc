// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace moesmith {
namespace {

TEST(thread_pool, runs_each_task_once) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(round));
      pool.run(round, [&](std::int64_t task, int worker) {
        ASSERT_GE(worker, 0);
        ASSERT_LT(worker, threads);
        ++seen[static_cast<std::size_t>(task)];
      });
      for (const auto& count : seen) ASSERT_EQ(count, 1);
    }
  }
}

TEST(thread_pool, chunks_cover_the_range_without_overlap) {
  ThreadPool pool(3);
  for (const std::int64_t count : {0, 1, 7, 8, 9, 100}) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
    pool.for_chunks(count, 8, [&](std::int64_t begin, std::int64_t end) {
      ASSERT_EQ(begin % 8, 0);
      ASSERT_LE(end - begin, 8);
      for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    for (const auto& times : seen) ASSERT_EQ(times, 1);
  }
}

TEST(thread_pool, passes_an_exception_on_and_goes_on_working) {
  ThreadPool pool(4);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.run(100,
                          [](std::int64_t task, int) {
                            if (task == 13) throw std::runtime_error("thirteen");
                          }),
                 std::runtime_error);
  }
  std::atomic<int> ran{0};
  pool.run(100, [&](std::int64_t, int) { ++ran; });
  EXPECT_EQ(ran, 100);
}

TEST(thread_pool, runs_a_nested_call_on_the_calling_thread) {
  ThreadPool pool(2);
  std::atomic<int> ran{0};
  pool.run(4, [&](std::int64_t, int) { pool.run(8, [&](std::int64_t, int) { ++ran; }); });
  EXPECT_EQ(ran, 32);
}

TEST(thread_pool, finds_at_least_one_processor) { EXPECT_GE(default_num_threads(), 1); }

}  // namespace
}  // namespace moesmith
