// SPDX-License-Identifier: Apache-2.0
// oneDNN's matmul on the calling thread. Primitives are compiled once per shape and kept.
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <vector>

#include "core/cpu_features.h"
#include "core/text.h"
#include "experts/grouped_mm/product.h"
#include "moesmith/error.h"

// libgomp's, which Debian's oneDNN runs on; <omp.h> would need -fopenmp.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace moesmith::experts::grouped_mm {
namespace {

using kernels::gemm::Args;
using kernels::gemm::Operand;

// oneDNN asks OpenMP how many threads it may use: one, here. The number is the calling thread's own
// setting and is put back.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// The dimensions, strides and flags that a primitive is compiled for.
using Key = std::tuple<std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       std::int64_t,
                       bool,
                       bool>;

struct Compiled {
  dnnl::memory::desc a, b, c, scratchpad;
  dnnl::matmul primitive;
};

dnnl::engine make_engine() {
  // Only before the first primitive can its instruction set be lowered to ours.
  switch (active_isa()) {
    case IsaLevel::kPortable:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
      break;
    case IsaLevel::kAvx2:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
      break;
    case IsaLevel::kAvx512:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
      break;
    case IsaLevel::kAvx512Bf16:
      break;
  }
  return dnnl::engine(dnnl::engine::kind::cpu, 0);
}

dnnl::engine& engine() {
  static dnnl::engine instance = make_engine();
  return instance;
}

Compiled compile(const Args& args) {
  using Dims = dnnl::memory::dims;
  const auto type =
      args.a.dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  Compiled result;
  result.a = {Dims{args.m, args.k}, type, Dims{args.a.row_stride, args.a.col_stride}};
  result.b = {Dims{args.k, args.n}, type, Dims{args.b.row_stride, args.b.col_stride}};
  result.c = {Dims{args.m, args.n}, dnnl::memory::data_type::f32, Dims{args.ldc, 1}};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (args.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(result.a, result.b, result.c),
                                          attributes, engine());
  result.scratchpad = desc.scratchpad_desc();
  result.primitive = dnnl::matmul(desc);
  return result;
}

const Compiled& compiled(const Args& args) {
  static std::mutex mutex;
  static std::map<Key, Compiled> cache;  // nodes stay where they are
  const Key key{args.m,
                args.n,
                args.k,
                args.a.row_stride,
                args.a.col_stride,
                args.b.row_stride,
                args.b.col_stride,
                args.ldc,
                args.a.dtype == DType::kBF16,
                args.accumulate};
  const std::lock_guard lock(mutex);
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  return cache.emplace(key, compile(args)).first->second;
}

void* scratchpad(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  thread_local std::vector<std::byte> storage;
  if (storage.size() < bytes + kAlignment) storage.resize(bytes + kAlignment);
  void* start = storage.data();
  std::size_t space = storage.size();
  return std::align(kAlignment, bytes, start, space);
}

}  // namespace

std::string onednn_missing() { return ""; }

bool onednn_has_bf16() {
  engine();
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & wanted) == wanted;
}

std::string onednn_version() {
  const dnnl::version_t* version = dnnl::version();
  return str("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

void onednn_multiply(const Args& args) {
  const OneThread one_thread;
  try {
    const Compiled& matmul = compiled(args);
    thread_local dnnl::stream stream(engine());
    const auto at = [&](const dnnl::memory::desc& desc, const void* data) {
      return dnnl::memory(desc, engine(), const_cast<void*>(data));
    };
    matmul.primitive.execute(
        stream,
        {{DNNL_ARG_SRC, at(matmul.a, args.a.data)},
         {DNNL_ARG_WEIGHTS, at(matmul.b, args.b.data)},
         {DNNL_ARG_DST, at(matmul.c, args.c)},
         {DNNL_ARG_SCRATCHPAD, at(matmul.scratchpad, scratchpad(matmul.scratchpad.get_size()))}});
    stream.wait();
  } catch (const dnnl::error& error) {
    throw Error(ErrorCode::kInternal,
                str("grouped_mm: oneDNN: ", error.what(), " for a product of m=", args.m,
                    " n=", args.n, " k=", args.k, " (", dtype_name(args.a.dtype), ")"));
  }
}

}  // namespace moesmith::experts::grouped_mm
