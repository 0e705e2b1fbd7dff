// SPDX-License-Identifier: Apache-2.0
#include "train/loss_plot.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "core/text.h"

namespace moesmith::train {
namespace {

constexpr double kWidth = 900, kHeight = 500;
constexpr double kLeft = 70, kRight = 24, kTop = 48, kBottom = 56;
constexpr const char* kRaw = "#9ec5e8";
constexpr const char* kSmooth = "#1f6fb2";
constexpr const char* kEval = "#d1495b";

struct Point {
  double step, loss;
};

// From a to b in steps of 1, 2 or 5 times a power of ten; about `wanted` of them.
struct Axis {
  double low, high, tick;
};

Axis axis(double low, double high, int wanted) {
  if (high - low < 1e-12) {
    const double pad = std::max(1e-3, std::abs(high) * 0.05);
    low -= pad;
    high += pad;
  }
  const double rough = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double tick = 10.0 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) {
      tick = factor * power;
      break;
    }
  }
  return {low, high, tick};
}

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return std::move(out).str();
}

std::string tick_text(double value, double tick) {
  const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(tick) - 1e-9)));
  return fixed(std::abs(value) < tick * 1e-6 ? 0.0 : value, digits);
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    }
  }
  return out;
}

class Canvas {
 public:
  Canvas(Axis x, Axis y) : x_(x), y_(y) {}
  double x(double step) const {
    return kLeft + (step - x_.low) / (x_.high - x_.low) * (kWidth - kLeft - kRight);
  }
  double y(double loss) const {
    return kHeight - kBottom - (loss - y_.low) / (y_.high - y_.low) * (kHeight - kTop - kBottom);
  }

  std::string grid() const {
    std::ostringstream out;
    out << "<g font-size='12' fill='#444'>\n";
    for (double v = std::ceil(y_.low / y_.tick - 1e-9) * y_.tick; v <= y_.high + y_.tick * 1e-9;
         v += y_.tick) {
      out << "<line x1='" << kLeft << "' x2='" << kWidth - kRight << "' y1='" << fixed(y(v), 2)
          << "' y2='" << fixed(y(v), 2) << "' stroke='#e4e4e4'/>\n<text text-anchor='end' x='"
          << kLeft - 8 << "' y='" << fixed(y(v) + 4, 2) << "'>" << tick_text(v, y_.tick)
          << "</text>\n";
    }
    for (double v = std::ceil(x_.low / x_.tick - 1e-9) * x_.tick; v <= x_.high + x_.tick * 1e-9;
         v += x_.tick) {
      out << "<line x1='" << fixed(x(v), 2) << "' x2='" << fixed(x(v), 2) << "' y1='"
          << kHeight - kBottom << "' y2='" << kHeight - kBottom + 5
          << "' stroke='#444'/>\n<text text-anchor='middle' x='" << fixed(x(v), 2) << "' y='"
          << kHeight - kBottom + 20 << "'>" << tick_text(v, x_.tick) << "</text>\n";
    }
    out << "<path d='M" << kLeft << " " << kTop << "V" << kHeight - kBottom << "H"
        << kWidth - kRight << "' fill='none' stroke='#444'/>\n<text text-anchor='middle' x='"
        << (kLeft + kWidth - kRight) / 2 << "' y='" << kHeight - 14
        << "' font-size='14'>step</text>\n<text text-anchor='middle' font-size='14' "
           "transform='translate(20 "
        << (kTop + kHeight - kBottom) / 2 << ") rotate(-90)'>loss per token</text>\n</g>\n";
    return std::move(out).str();
  }

  std::string line(const std::vector<Point>& points, const char* colour, double width) const {
    std::ostringstream out;
    out << "<polyline fill='none' stroke-linejoin='round' stroke='" << colour << "' stroke-width='"
        << width << "' points='";
    for (const Point& p : points) out << fixed(x(p.step), 2) << "," << fixed(y(p.loss), 2) << " ";
    out << "'/>\n";
    return std::move(out).str();
  }

  std::string dots(const std::vector<Point>& points, const char* colour) const {
    std::ostringstream out;
    for (const Point& p : points) {
      out << "<circle r='4' fill='" << colour << "' cx='" << fixed(x(p.step), 2) << "' cy='"
          << fixed(y(p.loss), 2) << "'><title>step " << p.step << ": " << fixed(p.loss, 4)
          << "</title></circle>\n";
    }
    return std::move(out).str();
  }

 private:
  Axis x_, y_;
};

std::string legend(bool has_eval) {
  std::ostringstream out;
  double x = kWidth - kRight - (has_eval ? 310 : 200);
  const auto entry = [&](const char* colour, const char* text, double width) {
    out << "<line x1='" << x << "' x2='" << x + 22 << "' y1='32' y2='32' stroke-width='" << width
        << "' stroke='" << colour << "'/><text font-size='13' x='" << x + 28 << "' y='36'>" << text
        << "</text>\n";
    x += 110;
  };
  entry(kRaw, "training", 2);
  entry(kSmooth, "smoothed", 3);
  if (has_eval) entry(kEval, "evaluation", 4);
  return std::move(out).str();
}

}  // namespace

std::vector<double> smoothed(const std::vector<double>& values) {
  if (values.empty()) return {};
  // 0 for a short curve, towards 1 for a long one.
  const double length = static_cast<double>(values.size());
  const double weight = 1.8 * (1.0 / (1.0 + std::exp(-0.05 * length)) - 0.5);
  std::vector<double> out;
  double last = values.front();
  for (const double value : values) {
    last = last * weight + (1.0 - weight) * value;
    out.push_back(last);
  }
  return out;
}

std::string loss_plot_svg(const std::vector<LogEntry>& history, const std::string& title) {
  std::vector<Point> train, eval;
  std::vector<double> losses;
  for (const LogEntry& entry : history) {
    if (!std::isfinite(entry.loss)) continue;
    const Point point{static_cast<double>(entry.step), entry.loss};
    (entry.evaluation ? eval : train).push_back(point);
    if (!entry.evaluation) losses.push_back(entry.loss);
  }
  std::ostringstream out;
  out << "<svg xmlns='http://www.w3.org/2000/svg' width='" << kWidth << "' height='" << kHeight
      << "' viewBox='0 0 " << kWidth << " " << kHeight
      << "' font-family='sans-serif'>\n<rect width='100%' height='100%' fill='white'/>\n<text x='"
      << kLeft << "' y='36' font-size='16' font-weight='bold'>" << escaped(title) << "</text>\n";
  if (train.empty() && eval.empty()) {
    out << "<text x='" << kLeft << "' y='" << kHeight / 2
        << "'>no loss was logged</text>\n</svg>\n";
    return std::move(out).str();
  }
  double low = 1e300, high = -1e300, first = 1e300, last = -1e300;
  for (const auto* points : {&train, &eval}) {
    for (const Point& p : *points) {
      low = std::min(low, p.loss);
      high = std::max(high, p.loss);
      first = std::min(first, p.step);
      last = std::max(last, p.step);
    }
  }
  const double pad = (high - low) * 0.05;
  const Canvas canvas(axis(first, last, 8), axis(low - pad, high + pad, 6));
  out << canvas.grid() << canvas.line(train, kRaw, 1.5);
  const std::vector<double> smooth = smoothed(losses);
  for (std::size_t i = 0; i < train.size(); ++i) train[i].loss = smooth[i];
  out << canvas.line(train, kSmooth, 2.5) << canvas.line(eval, kEval, 1.2)
      << canvas.dots(eval, kEval) << legend(!eval.empty()) << "</svg>\n";
  return std::move(out).str();
}

}  // namespace moesmith::train
