// SPDX-License-Identifier: Apache-2.0
// Stands in for grouped_mm.cc in a build with CUDA but without CUTLASS.
#include "experts/implementation.h"

namespace moesmith::experts::on_cuda {
namespace {

Refusal refuses(const ExpertsRequest&) {
  return "on a GPU needs CUTLASS: this build has none (configure with -DMOESMITH_CUTLASS=FOLDER)";
}

}  // namespace

const CudaImplementation kGroupedMm = {.refuses = refuses,
                                       .describe = nullptr,
                                       .sizes = nullptr,
                                       .forward = nullptr,
                                       .backward = nullptr};

}  // namespace moesmith::experts::on_cuda
