// SPDX-License-Identifier: Apache-2.0
// The loss over the steps as an SVG picture: raw, smoothed, and evaluation points.
#pragma once

#include <string>
#include <vector>

#include "train/trainer_state.h"

namespace moesmith::train {

// `title` is shown above the curves. Values that are not finite are left out; a history without
// any gives a picture that says so.
std::string loss_plot_svg(const std::vector<LogEntry>& history, const std::string& title);

// LLaMA-Factory's smoothing: an exponential mean whose weight follows the curve's length.
std::vector<double> smoothed(const std::vector<double>& values);

}  // namespace moesmith::train
