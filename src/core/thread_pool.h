// SPDX-License-Identifier: Apache-2.0
// A fixed set of threads that run numbered tasks. No OpenMP: a host program may bring a runtime of
// its own.
//
// Determinism: which thread runs a task is not fixed, so a task must write only what its number
// owns, and sums across tasks are made afterwards in task order. Under that rule results do not
// depend on the thread count.
#pragma once

#include <cstdint>
#include <memory>

#include "core/function_ref.h"

namespace moesmith {

class ThreadPool {
 public:
  // num_threads counts the caller, which works too; 0 means default_num_threads().
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const noexcept;

  // Runs task(i, worker) for each i in [0, num_tasks) and returns when all have ended; worker is in
  // [0, num_threads). Tasks are handed out in index order. The first exception is rethrown here
  // after the rest of the tasks were skipped. Nested calls from within a task run on the calling
  // thread alone.
  void run(std::int64_t num_tasks, FunctionRef<void(std::int64_t task, int worker)> task);

  // Splits [0, count) into chunks of `grain` (the last one shorter) and runs body(begin, end) for
  // each.
  void for_chunks(std::int64_t count,
                  std::int64_t grain,
                  FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Processors in the affinity mask, lowered to the cgroup's CPU quota where there is one; at
// least 1.
int default_num_threads();

}  // namespace moesmith
