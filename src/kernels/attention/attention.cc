// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.h"

#include <algorithm>

#include "kernels/attention/blocks.h"

namespace moesmith::kernels::attention {

template <class T>
std::int64_t scratch_bytes(const ScratchRequest& request, int num_threads) {
  const std::int64_t forward = forward_bytes<T>(request, num_threads);
  return request.backward ? std::max(forward, backward_bytes<T>(request, num_threads)) : forward;
}

template std::int64_t scratch_bytes<float>(const ScratchRequest&, int);
template std::int64_t scratch_bytes<bf16>(const ScratchRequest&, int);

}  // namespace moesmith::kernels::attention
