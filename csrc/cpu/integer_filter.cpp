#include "cpu/integer_filter.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fastsr {
namespace {

constexpr double kLargestSum = 2147483647;  // of 32 bits
constexpr double kLargestWeight = 32767;

double rounded(double x) {
  constexpr double kWhole = 6755399441055744;  // 1.5 * 2^52, whose neighbours are whole numbers
  return x + kWhole - kWhole;                  // to even, as nearbyint() does, which older CPUs have no instruction for
}

// The largest magnitude that a sum can have: the worst pixels in all channels at once.
double largest_sum(const std::vector<double>& weights, std::size_t inputs, int channels, const Transform& transform,
                   const Quantizer& quantizer) {
  double most = 0;
  for (std::size_t sum = 0; sum * inputs < weights.size(); ++sum) {
    const int term = static_cast<int>(sum) % transform.terms();
    const double of_high = transform.largest_term(term, 0, 1), of_low = transform.largest_term(term, 1, 0);
    double up = 0, down = 0;
    const double* w = weights.data() + sum * inputs;
    for (const double* end = w + inputs; w != end;) {
      for (int c = 0; c < channels; ++c, ++w) {
        const double low = double{quantizer.low.data()[c]}, high = double{quantizer.high.data()[c]};
        const double a = *w * (of_high * high + of_low * low), b = *w * (of_high * low + of_low * high);
        up += std::max(a, b);
        down -= std::min(a, b);
      }
    }
    most = std::max({most, up, down});
  }
  return most;
}

}  // namespace

IntegerFilter::IntegerFilter(std::vector<double> exact, int parts, int channels, const Transform& transform,
                             const Quantizer& quantizer)
    : parts_(parts), channels_(channels) {
  const auto inputs = static_cast<std::size_t>(parts) * static_cast<std::size_t>(channels);
  double most = 1e-30;  // so that a filter of zeros has a factor too
  for (std::size_t n = 0; n < exact.size();) {
    for (int c = 0; c < channels; ++c, ++n) {
      exact[n] *= double{quantizer.scale.data()[c]};
      most = std::max(most, std::fabs(exact[n]));
    }
  }
  // Rounding may add a little to the sums, so that they are checked on what came out.
  double factor = kLargestWeight / most;
  const double worst = largest_sum(exact, inputs, channels, transform, quantizer);
  if (worst > 0) factor = std::min(factor, kLargestSum / worst);
  std::vector<double> whole(exact.size());
  for (;;) {
    for (std::size_t n = 0; n < exact.size(); ++n) whole[n] = rounded(exact[n] * factor);
    const double sum = largest_sum(whole, inputs, channels, transform, quantizer);
    if (sum <= kLargestSum) break;
    factor *= std::min(1 - 1e-4, kLargestSum / sum);
  }
  unit_ = static_cast<float>(std::min(1 / factor, double{std::numeric_limits<float>::max()}));
  values_.assign(whole.begin(), whole.end());
}

Cell IntegerFilter::pair(int sum, int part, int input) const {
  const auto half = [&](int c) {
    const auto n = static_cast<std::size_t>((sum * parts_ + part) * channels_ + c);
    return c < channels_ ? static_cast<std::uint32_t>(static_cast<std::uint16_t>(values_[n])) : 0;
  };
  return static_cast<Cell>(half(2 * input) | half(2 * input + 1) << 16);
}

}  // namespace fastsr
