// SPDX-License-Identifier: Apache-2.0
// nodes(a, b, ...): owned nodes as a list, which an initialiser list cannot hold.
#pragma once

#include <utility>
#include <vector>

#include "text/jinja/ast.h"

namespace moesmith::text::jinja {

template <class... Parts>
std::vector<ExprPtr> nodes(Parts... parts) {
  std::vector<ExprPtr> out;
  (out.push_back(std::move(parts)), ...);
  return out;
}

}  // namespace moesmith::text::jinja
