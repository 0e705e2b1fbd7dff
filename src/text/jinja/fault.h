// SPDX-License-Identifier: Apache-2.0
// What goes wrong inside a template; Template adds name and line to it.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::text::jinja {

class Fault : public std::exception {
 public:
  Fault(ErrorCode code, std::string message, int line = 0)
      : code_(code), line_(line), message_(std::move(message)) {}
  ErrorCode code() const noexcept { return code_; }
  int line() const noexcept { return line_; }  // 0: the line being rendered
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  int line_;
  std::string message_;
};

// What Python would raise.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Fault(ErrorCode::kInvalidInput, str(parts...));
}
// What Python can do and this interpreter does not, and bounds.
template <class... Parts>
[[noreturn]] void unsupported(const Parts&... parts) {
  throw Fault(ErrorCode::kUnsupported, str(parts...));
}

}  // namespace moesmith::text::jinja
