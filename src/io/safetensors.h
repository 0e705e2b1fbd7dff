// SPDX-License-Identifier: Apache-2.0
// safetensors: 8 bytes header length, a JSON header {name: {dtype, shape, data_offsets}}, raw data.
// The reader maps the file and checks every number of the header against it before use; the writer
// lays tensors out as the safetensors library does, so equal contents are equal bytes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/atomic_write.h"
#include "moesmith/tensor.h"

namespace moesmith::io {

using Metadata = std::map<std::string, std::string>;

struct TensorInfo {
  std::string name;
  std::string dtype_text;  // as in the file
  std::optional<DType>
      dtype;  // nothing: a type that safetensors has and Moesmith has not (F8_E4M3)
  Shape shape;
  std::int64_t begin = 0;  // bytes from the start of the file
  std::int64_t end = 0;
};

// A mapped file; copies share the map. Any defect is one Error(kInvalidInput) that names file,
// tensor, what was found and what was expected.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);

  const std::string& path() const noexcept;
  const Metadata& metadata() const noexcept;
  const std::vector<TensorInfo>& tensors() const noexcept;  // in the order of their data
  // nullptr when the file has no such tensor.
  const TensorInfo* find(std::string_view name) const noexcept;
  // A view into the map, which lives as long as the view; read-only, writing faults. Data that is
  // not aligned to its element is copied. Throws Error(kNotFound) or Error(kUnsupported) (dtype).
  Tensor tensor(std::string_view name) const;
  Tensor tensor(const TensorInfo& info) const;
  // Tells the system that the whole file will be read soon / is not needed in memory any more.
  void will_need() const noexcept;
  void dont_need() const noexcept;
  // The same of one tensor's whole pages. Views stay valid: reading brings the pages back.
  void dont_need(const TensorInfo& info) const noexcept;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Writes a file of tensors known beforehand; each is handed over when it is there, in any order.
// The file appears under its name when finish() returns.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string path,
                    std::vector<TensorSpec> tensors,
                    const Metadata& metadata = {{"format", "pt"}});

  // dtype and shape must be those of the spec; Error(kInternal) otherwise.
  void write(std::string_view name, const Tensor& tensor);
  // Rows [first, first + rows) of the first axis, for tensors made piece by piece. Each row once.
  void write_rows(std::string_view name, std::int64_t first, const Tensor& rows);
  // Error(kInternal) when a tensor is not complete.
  void finish();

 private:
  struct Slot {
    TensorSpec spec;
    std::int64_t begin = 0;
    std::int64_t bytes = 0;
    std::int64_t written = 0;
  };
  Slot& slot(std::string_view name);

  AtomicFile file_;
  std::vector<Slot> slots_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

using NamedTensor = std::pair<std::string, Tensor>;

void write_safetensors(const std::string& path,
                       const std::vector<NamedTensor>& tensors,
                       const Metadata& metadata = {{"format", "pt"}});

}  // namespace moesmith::io
