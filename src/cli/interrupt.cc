// SPDX-License-Identifier: Apache-2.0
// Signal handling: the handler stores to a lock-free atomic and writes a literal, nothing else.
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace moesmith::cli {
namespace {

static_assert(std::atomic<bool>::is_always_lock_free, "stored from a signal handler");
std::atomic<bool> stop_requested{false};
std::atomic<const char*> first_message{nullptr};

// SA_RESETHAND has put the default back already, so the next signal kills.
void on_signal(int) {
  stop_requested.store(true);
  if (const char* message = first_message.load()) {
    const ssize_t ignored = write(STDERR_FILENO, message, std::strlen(message));
    (void)ignored;
  }
}

void install() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // no SA_RESTART: a read from stdin must end
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard(const char* message) {
  stop_requested.store(false);
  first_message.store(message);
  install();
}

InterruptGuard::~InterruptGuard() {
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
}

const std::atomic<bool>& InterruptGuard::stop() const { return stop_requested; }

bool InterruptGuard::interrupted() const { return stop_requested.load(); }

void InterruptGuard::rearm() {
  stop_requested.store(false);
  install();
}

}  // namespace moesmith::cli
