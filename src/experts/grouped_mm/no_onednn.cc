// SPDX-License-Identifier: Apache-2.0
// Stands in for onednn.cc in a build without oneDNN.
#include "experts/grouped_mm/product.h"
#include "moesmith/error.h"

namespace moesmith::experts::grouped_mm {

std::string onednn_missing() {
  return "needs oneDNN; this build has none (configured with MOESMITH_ONEDNN=OFF)";
}

bool onednn_has_bf16() { return false; }

std::string onednn_version() { return "no oneDNN"; }

void onednn_multiply(const kernels::gemm::Args&) {
  throw Error(ErrorCode::kInternal, "grouped_mm: a product was asked of a build without oneDNN");
}

}  // namespace moesmith::experts::grouped_mm
