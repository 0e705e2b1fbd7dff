// SPDX-License-Identifier: Apache-2.0
// The implementations, one row each. `eager` is last; it takes whatever the contract allows. Which
// of them `auto` prefers is in auto_table.cc.
#include "core/text.h"
#include "cuda/device.h"
#include "experts/implementation.h"

namespace moesmith::experts {
namespace {

Refusal refuses_sonicmoe(const ExpertsRequest&) {
  const cuda::DeviceList list = cuda::list_devices();
  if (list.devices.empty()) return str("needs a Hopper GPU (sm_90a): ", list.why_empty);
  return "needs a Hopper GPU (sm_90a): it is not for the CPU";
}

constexpr Implementation kTable[] = {
    {.name = "sonicmoe",
     .refuses = refuses_sonicmoe,
     .describe = nullptr,
     .sizes = nullptr,
     .forward = nullptr,
     .backward = nullptr,
     .cuda = &on_cuda::kSonicmoe},
    {.name = "scattermoe",
     .refuses = scattermoe::refuses,
     .describe = scattermoe::describe,
     .sizes = scattermoe::sizes,
     .forward = scattermoe::forward,
     .backward = scattermoe::backward,
     .packed_bytes = scattermoe::packed_bytes,
     .pack = scattermoe::pack,
     .cuda = &on_cuda::kScattermoe},
    {.name = "grouped_mm",
     .refuses = grouped_mm::refuses,
     .describe = grouped_mm::describe,
     .sizes = grouped_mm::sizes,
     .forward = grouped_mm::forward,
     .backward = grouped_mm::backward,
     .cuda = &on_cuda::kGroupedMm},
    {.name = "batched_mm",
     .refuses = batched_mm::refuses,
     .describe = batched_mm::describe,
     .sizes = batched_mm::sizes,
     .forward = batched_mm::forward,
     .backward = batched_mm::backward},
    {.name = "eager",
     .refuses = eager::refuses,
     .describe = eager::describe,
     .sizes = eager::sizes,
     .forward = eager::forward,
     .backward = eager::backward,
     .cuda = &on_cuda::kEager},
};

}  // namespace

std::span<const Implementation> implementations() { return kTable; }

Refusal refusal_of(const Implementation& one, const ExpertsRequest& request) {
  const bool on_gpu = request.device == Device::kCuda && one.cuda != nullptr;
  return on_gpu ? one.cuda->refuses(request) : one.refuses(request);
}

std::string description_of(const Implementation& one, const ExpertsRequest& request) {
  const bool on_gpu = request.device == Device::kCuda && one.cuda != nullptr;
  return on_gpu ? one.cuda->describe(request) : one.describe(request);
}

}  // namespace moesmith::experts
