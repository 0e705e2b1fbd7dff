// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: the first asks the work to stop and save, the second ends the process at once.
#pragma once

#include <atomic>

namespace moesmith::cli {

// While it lives, SIGINT and SIGTERM set the token that stop() gives; a second one has the system's
// default effect. One at a time.
class InterruptGuard {
 public:
  // Written to stderr at the first signal; a string literal.
  explicit InterruptGuard(const char* message);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  const std::atomic<bool>& stop() const;
  bool interrupted() const;
  // Forgets a signal and waits for the next one, as a chat does after a reply was cut off.
  void rearm();
};

}  // namespace moesmith::cli
