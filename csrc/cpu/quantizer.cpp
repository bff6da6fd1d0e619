#include "cpu/quantizer.hpp"

#include <algorithm>
#include <cmath>

namespace fastsr {
namespace {

constexpr double kLargest = 32767;

// The largest magnitude of any term.
double reach_of(double low, double high) {
  double most = 0;
  for (int i = 0; i < kTileInputs; ++i) {
    for (int j = 0; j < kTileInputs; ++j) {
      most = std::max({most, largest_term(i, j, low, high), largest_term(i, j, -high, -low)});
    }
  }
  return most;
}

}  // namespace

bool make_quantizer(const float* ranges, int channels, Quantizer& out) {
  const auto count = static_cast<std::size_t>(2 * cells_of(channels));
  if (!out.scale.allocate(count) || !out.inverse.allocate(count) || !out.low.allocate(count) ||
      !out.high.allocate(count)) {
    return false;
  }
  for (std::size_t c = 0; c < count; ++c) {
    const bool exists = c < static_cast<std::size_t>(channels);
    const double low = exists ? std::min(0.0, double{ranges[c]}) : 0.0;
    const double high = exists ? std::max(0.0, double{ranges[c + static_cast<std::size_t>(channels)]}) : 0.0;
    // A channel that is always zero keeps one step, and stays zero.
    const float scale = static_cast<float>(std::max(reach_of(low, high) / kLargest, 1e-30));
    double least = std::ceil(low / double{scale}), most = std::floor(high / double{scale});
    while (reach_of(least, most) > kLargest) least < -most ? ++least : --most;  // scale was rounded
    out.scale.data()[c] = scale;
    out.inverse.data()[c] = 1.0f / scale;
    out.low.data()[c] = static_cast<float>(least);
    out.high.data()[c] = static_cast<float>(most);
  }
  return true;
}

}  // namespace fastsr
