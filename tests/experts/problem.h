// SPDX-License-Identifier: Apache-2.0
// Data for a case, laid out as its request says; runs a plan on it and brings the results back to
// logical order. Every buffer is exactly as large as it must be and lies between guard bands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "experts_cases.h"
#include "moesmith/experts.h"
#include "oracle.h"

namespace moesmith::experts::testing {

// Bytes between two bands of a pattern; intact() says whether the bands still hold it. The start is
// aligned to 64 bytes plus `shift`.
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(std::int64_t bytes, std::int64_t shift = 0);
  std::byte* data() { return storage_.data() + begin_; }
  const std::byte* data() const { return storage_.data() + begin_; }
  std::span<std::byte> span() { return {data(), size_}; }
  std::size_t size() const { return size_; }
  bool intact() const;
  void fill(int byte);

 private:
  std::vector<std::byte> storage_;
  std::size_t begin_ = 0, size_ = 0;
};

// A flat array of `dtype`.
struct Buffer {
  Guarded bytes;
  DType dtype = DType::kF32;
  std::int64_t count = 0;

  Buffer() = default;
  Buffer(std::int64_t count, DType dtype, std::int64_t shift = 0);
  void set(std::int64_t i, double value);
  double get(std::int64_t i) const;
  Values values() const;
};

// One run's output and gradients, as raw bytes and as logical values.
struct Outcome {
  Results values;
  std::vector<std::vector<std::byte>> raw;
  std::string broken_band;  // "" or the buffer whose guard was written
};

// Runs a plan's passes on host buffers: on a thread pool, or elsewhere by copying there and back.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual ExpertsSizes sizes(const ExpertsPlan& plan, std::int64_t num_tokens) = 0;
  virtual void forward(const ExpertsPlan& plan, const ForwardArgs& args) = 0;
  virtual void backward(const ExpertsPlan& plan, const BackwardArgs& args) = 0;
};

class Problem {
 public:
  // Values rounded to the dtypes of the request, so that every implementation sees the same ones.
  explicit Problem(const Case& c, std::uint64_t seed = 1);

  const Data& data() const { return data_; }
  Data& data() { return data_; }
  // Writes data() into the buffers again, after a change.
  void lay_out();
  ExpertsInputs inputs() const;

  // Forward, and backward if anything is wanted. Outputs start as NaN, accumulated ones as
  // `before`.
  Outcome run(const ExpertsPlan& plan, ThreadPool& pool, double before = 0.5) const;
  Outcome run(const ExpertsPlan& plan, Executor& executor, double before = 0.5) const;

  const Case& get_case() const { return case_; }

 private:
  void lay_out_weights();
  std::int64_t stride_padding() const;

  Case case_;
  Data data_;
  Buffer hidden_, route_weights_, d_output_, bias_1_, bias_2_, a_1_, b_1_, a_2_, b_2_;
  Guarded index_;
  std::vector<Buffer> first_, up_, down_;  // one allocation per expert
  std::vector<const void*> first_base_, up_base_, down_base_;
};

}  // namespace moesmith::experts::testing
