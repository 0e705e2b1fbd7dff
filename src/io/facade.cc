// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"
#include "moesmith/io.h"

namespace moesmith {

TensorFile read_safetensors(const std::string& path) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  TensorFile result;
  result.metadata = file.metadata();
  for (const io::TensorInfo& info : file.tensors()) {
    result.tensors.emplace_back(info.name, file.tensor(info));
  }
  return result;
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  io::write_safetensors(path, file.tensors, file.metadata);
}

}  // namespace moesmith
