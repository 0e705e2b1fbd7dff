// SPDX-License-Identifier: Apache-2.0
// What a call has to do at least: the arithmetic of the base products and the bytes that must come
// from or go to memory. The roofline of a case is the larger of the two times.
#pragma once

#include <cstdint>

#include "experts/case.h"

namespace moesmith::bench {

// Base products only, whatever else runs: 6 T K H I forward, the same again backward with frozen
// weights, twice that with trained ones.
double flops_of(const Case& c);

// With b the bytes of an element of dtype, `hit` the experts that have rows, W = 3 H I b a hit
// expert's weights, F = 4 r (2 H + 3 I) its LoRA factors (f32), X = T H b a tensor of tokens and
// S = 2 T K I b the saved pre-activations:
//   forward  hit W + 2 X                                          x in, y out
//   lora     hit (2 W + 2 F) + 5 X + 2 S + E F                    x twice, dy, y, dx; S out and in;
//   full     hit 2 W + 5 X + 2 S + 4 E 3 H I                      f32 gradients of every expert out
// Each is counted once per pass: rows that several experts gather, and weights within a pass, may
// come from a cache. Backward comes after all of forward, so it reads the weights again; a layer
// whose weights fit the last cache can therefore exceed this bound.
double bytes_of(const Case& c, double experts_hit);

// All weights once, in bytes.
std::int64_t weight_bytes(const Case& c);
// Gradients of weights or factors, in bytes.
std::int64_t gradient_bytes(const Case& c);

}  // namespace moesmith::bench
