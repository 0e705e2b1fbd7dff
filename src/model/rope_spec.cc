// SPDX-License-Identifier: Apache-2.0
// Inverse frequencies of rotary embeddings as transformers' modeling_rope_utils computes them.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/text.h"
#include "model/config_fields.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

double mscale(double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; }

// The frequency index that turns `rotations` times within `max_position`.
double correction_dim(double rotations, double dim, double base, double max_position) {
  return dim * std::log(max_position / (rotations * 2 * std::numbers::pi)) / (2 * std::log(base));
}

double positive_number(const io::JsonRef& parameters, std::string_view key) {
  const io::JsonRef field = parameters.at(key);
  const double value = field.as_number();
  if (!(value > 0) || !std::isfinite(value)) field.fail(str("got ", value, ", expected above 0"));
  return value;
}

std::vector<float> plain(double theta, std::int64_t head_dim) {
  std::vector<float> inv_freq(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    inv_freq[i] = 1.0f / std::pow(static_cast<float>(theta), exponent);
  }
  return inv_freq;
}

void yarn(const io::JsonRef& p, double theta, std::int64_t max_positions, RopeSpec& rope) {
  const double original =
      p.get_number("original_max_position_embeddings", static_cast<double>(max_positions));
  const double factor = p.has("factor") ? positive_number(p, "factor")
                                        : static_cast<double>(max_positions) / original;
  const double m = p.get_number("mscale", 0), m_all = p.get_number("mscale_all_dim", 0);
  const double fallback =
      m != 0 && m_all != 0 ? mscale(factor, m) / mscale(factor, m_all) : mscale(factor, 1.0);
  rope.magnitude = static_cast<float>(p.get_number("attention_factor", fallback));
  const auto half = static_cast<double>(rope.inv_freq.size());
  double low = correction_dim(p.get_number("beta_fast", 32), 2 * half, theta, original);
  double high = correction_dim(p.get_number("beta_slow", 1), 2 * half, theta, original);
  if (p.get_bool("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, 2 * half - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < rope.inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double f = rope.inv_freq[i];
    rope.inv_freq[i] = static_cast<float>(f / factor * ramp + f * (1 - ramp));
  }
}

void llama3(const io::JsonRef& p, RopeSpec& rope) {
  const double factor = positive_number(p, "factor");
  const double low = positive_number(p, "low_freq_factor");
  const double high = positive_number(p, "high_freq_factor");
  const double original = positive_number(p, "original_max_position_embeddings");
  for (float& f : rope.inv_freq) {
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(f);
    if (wavelength > original / low) {
      f = static_cast<float>(f / factor);
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      f = static_cast<float>((1 - smooth) * f / factor + smooth * f);
    }
  }
}

}  // namespace

RopeSpec read_rope(const io::JsonRef& config, std::int64_t head_dim, double default_theta) {
  // transformers 5 keeps theta beside the scaling; 4 keeps it at the top, and the scaling may be
  // null.
  auto parameters = config.find("rope_parameters");
  if (!parameters) parameters = config.find("rope_scaling");
  double theta = config.get_number("rope_theta", default_theta);
  RopeSpec rope;
  if (parameters) {
    theta = parameters->get_number("rope_theta", theta);
    rope.type = parameters->get_string("rope_type", parameters->get_string("type", "default"));
    if (parameters->get_number("partial_rotary_factor", 1.0) != 1.0) {
      parameters->fail("partial_rotary_factor: not built, expected 1");
    }
    for (const char* nested : {"full_attention", "sliding_attention"}) {
      if (parameters->has(nested)) parameters->fail("one rope for each layer type is not built");
    }
  }
  if (!(theta > 1) || !std::isfinite(theta)) {
    config.fail(str("rope_theta: got ", theta, ", expected above 1"));
  }
  rope.inv_freq = plain(theta, head_dim);
  if (rope.type == "default") return rope;
  if (rope.type == "linear") {
    const double factor = positive_number(*parameters, "factor");
    for (float& f : rope.inv_freq) f = static_cast<float>(f / factor);
  } else if (rope.type == "yarn") {
    yarn(*parameters, theta, positive(config, {"max_position_embeddings"}), rope);
  } else if (rope.type == "llama3") {
    llama3(*parameters, rope);
  } else {
    throw Error(ErrorCode::kUnsupported,
                str(config.source(), ": ", parameters->path(), ": got rope_type \"", rope.type,
                    "\", expected default, linear, yarn or llama3"));
  }
  return rope;
}

}  // namespace moesmith::model
