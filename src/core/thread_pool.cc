// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/checked.h"
#include "core/cpu_topology.h"

namespace moesmith {
namespace {

thread_local bool inside_task = false;

// A step makes thousands of short parallel regions a second: workers look for the next one for
// about this many pauses (tens of microseconds) before they sleep on the condition variable.
constexpr int kSpinPauses = 4000;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::mutex region;  // one parallel region at a time; callers from several threads queue here
  const FunctionRef<void(std::int64_t, int)>* task = nullptr;
  std::int64_t num_tasks = 0;
  std::atomic<std::int64_t> next{0};
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> running{0};
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  std::mutex error_mutex;

  void work(int worker) {
    inside_task = true;
    for (;;) {
      const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= num_tasks) break;
      try {
        (*task)(i, worker);
      } catch (...) {  // a thread's edge: the exception goes on in the caller
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(num_tasks, std::memory_order_relaxed);
      }
    }
    inside_task = false;
  }

  void loop(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpinPauses && generation.load(std::memory_order_acquire) == seen; ++i)
        pause_cpu();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      work(worker);
      running.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  const int count = num_threads > 0 ? num_threads : default_num_threads();
  for (int worker = 1; worker < count; ++worker) {
    state_->threads.emplace_back([this, worker] { state_->loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop.store(true, std::memory_order_release);
    state_->generation.fetch_add(1, std::memory_order_acq_rel);
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::num_threads() const noexcept {
  return static_cast<int>(state_->threads.size()) + 1;
}

void ThreadPool::run(std::int64_t num_tasks, FunctionRef<void(std::int64_t, int)> task) {
  if (num_tasks <= 0) return;
  if (inside_task || state_->threads.empty() || num_tasks == 1) {
    const bool was_inside = inside_task;
    inside_task = true;
    try {
      for (std::int64_t i = 0; i < num_tasks; ++i) task(i, 0);
    } catch (...) {  // only to restore the flag
      inside_task = was_inside;
      throw;
    }
    inside_task = was_inside;
    return;
  }
  const std::lock_guard region(state_->region);
  State& s = *state_;
  s.task = &task;
  s.num_tasks = num_tasks;
  s.next.store(0, std::memory_order_relaxed);
  s.running.store(static_cast<int>(s.threads.size()), std::memory_order_relaxed);
  {
    const std::lock_guard lock(s.mutex);
    s.generation.fetch_add(1, std::memory_order_acq_rel);
  }
  s.wake.notify_all();
  s.work(0);
  for (int i = 0; s.running.load(std::memory_order_acquire) > 0; ++i) {
    if (i < kSpinPauses) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
  }
  if (s.error) {
    const std::exception_ptr error = std::exchange(s.error, nullptr);
    std::rethrow_exception(error);
  }
}

void ThreadPool::for_chunks(std::int64_t count,
                            std::int64_t grain,
                            FunctionRef<void(std::int64_t, std::int64_t)> body) {
  run(ceil_div(count, grain),
      [&](std::int64_t chunk, int) { body(chunk * grain, std::min(count, (chunk + 1) * grain)); });
}

int default_num_threads() { return usable_cpus(allowed_cpus().size(), cpu_quota()); }

}  // namespace moesmith
