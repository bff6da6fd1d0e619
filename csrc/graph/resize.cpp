#include "graph/resize.hpp"

#include <cmath>

namespace fastsr {
namespace {

// Keys' cubic kernel (1981), |t| < 2.
double cubic(double t, double a) {
  t = std::fabs(t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
}

}  // namespace

Taps taps_of(const Node& node, int phase) {
  Taps taps;
  const double u = (phase + 0.5) / node.factor - 0.5;
  const int base = static_cast<int>(std::floor(u));
  const double t = u - base;
  if (node.mode == ResizeMode::bilinear) {
    taps.count = 2;
    taps.start = base;
    taps.weights[0] = static_cast<float>(1 - t);
    taps.weights[1] = static_cast<float>(t);
  } else if (node.mode == ResizeMode::bicubic) {
    taps.count = 4;
    taps.start = base - 1;
    for (int i = 0; i < 4; ++i) taps.weights[i] = static_cast<float>(cubic(t + 1 - i, double{node.cubic_a}));
  }
  return taps;
}

}  // namespace fastsr
