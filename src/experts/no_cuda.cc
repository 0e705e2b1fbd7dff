// SPDX-License-Identifier: Apache-2.0
// Stands in for cuda/ in a build without CUDA: each half refuses with that reason.
#include "core/text.h"
#include "cuda/device.h"
#include "experts/implementation.h"

namespace moesmith::experts::on_cuda {
namespace {

Refusal refuses(const ExpertsRequest&) { return cuda::list_devices().why_empty; }

Refusal refuses_sonicmoe(const ExpertsRequest&) {
  return str("needs a Hopper GPU (sm_90a): ", cuda::list_devices().why_empty);
}

}  // namespace

const CudaImplementation kScattermoe = {.refuses = refuses,
                                        .describe = nullptr,
                                        .sizes = nullptr,
                                        .forward = nullptr,
                                        .backward = nullptr};

const CudaImplementation kGroupedMm = {.refuses = refuses,
                                       .describe = nullptr,
                                       .sizes = nullptr,
                                       .forward = nullptr,
                                       .backward = nullptr};

const CudaImplementation kEager = {.refuses = refuses,
                                   .describe = nullptr,
                                   .sizes = nullptr,
                                   .forward = nullptr,
                                   .backward = nullptr};

const CudaImplementation kSonicmoe = {.refuses = refuses_sonicmoe,
                                      .describe = nullptr,
                                      .sizes = nullptr,
                                      .forward = nullptr,
                                      .backward = nullptr};

}  // namespace moesmith::experts::on_cuda
