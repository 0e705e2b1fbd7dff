// SPDX-License-Identifier: Apache-2.0
// safetensors files for programs that hand tensors to the library or take them from it.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "moesmith/tensor.h"

namespace moesmith {

struct TensorFile {
  std::vector<std::pair<std::string, Tensor>> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

// Maps the file: the tensors are read-only views that keep the map alive. Every number of the
// header is checked against the file first; Error(kInvalidInput) names file, tensor, what was found
// and what was expected.
TensorFile read_safetensors(const std::string& path);

// Writes what the safetensors library would write, byte for byte, under a temporary name that is
// synced and renamed. Error(kIo) names the path and the system's reason.
void write_safetensors(const std::string& path, const TensorFile& file);

}  // namespace moesmith
