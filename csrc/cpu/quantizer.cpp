#include "cpu/quantizer.hpp"

#include <algorithm>
#include <cmath>

namespace fastsr {
namespace {

constexpr double kLargest = 32767;

// The largest magnitude of any term.
double reach_of(const Transform& transform, double low, double high) {
  double most = 0;
  for (int term = 0; term < transform.terms(); ++term) {
    most = std::max({most, transform.largest_term(term, low, high), transform.largest_term(term, -high, -low)});
  }
  return most;
}

}  // namespace

bool make_quantizer(const float* ranges, int channels, int span, const Transform& transform, Quantizer& out) {
  const auto count = static_cast<std::size_t>(2 * cells_of(channels));
  if (!out.scale.allocate(count) || !out.inverse.allocate(count) || !out.low.allocate(count) ||
      !out.high.allocate(count)) {
    return false;
  }
  for (std::size_t c = 0; c < count; ++c) {
    const bool exists = c < static_cast<std::size_t>(channels);
    const std::size_t range = c / static_cast<std::size_t>(span);
    const double low = exists ? std::min(0.0, double{ranges[range]}) : 0.0;
    const double high = exists ? std::max(0.0, double{ranges[range + static_cast<std::size_t>(channels / span)]}) : 0.0;
    // A channel that is always zero keeps one step, and stays zero.
    const float scale = static_cast<float>(std::max(reach_of(transform, low, high) / kLargest, 1e-30));
    double least = std::ceil(low / double{scale}), most = std::floor(high / double{scale});
    while (reach_of(transform, least, most) > kLargest) least < -most ? ++least : --most;  // scale was rounded
    out.scale.data()[c] = scale;
    out.inverse.data()[c] = 1.0f / scale;
    out.low.data()[c] = static_cast<float>(least);
    out.high.data()[c] = static_cast<float>(most);
  }
  return true;
}

}  // namespace fastsr
