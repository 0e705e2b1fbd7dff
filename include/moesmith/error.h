// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library. What it says is meant for the person who made the request:
// "<where>: <what>, got <x>, expected <y>".
#pragma once

#include <stdexcept>
#include <string>

namespace moesmith {

enum class ErrorCode {
  kInvalidInput,  // a configuration, file, shape or flag that the user can mend: exit code 2
  kNotFound,      // a file, tensor or model that is not there: exit code 2
  kUnsupported,   // a request that is well formed but that nothing here can do: exit code 2
  kOutOfMemory,   // the plan does not fit the memory there is: exit code 2
  kIo,            // the system refused a read or write (disk full, no permission): exit code 1
  kInterrupted,   // stopped by a signal after leaving things clean: exit code 130
  kInternal,      // a defect of Moesmith itself: exit code 1
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace moesmith
