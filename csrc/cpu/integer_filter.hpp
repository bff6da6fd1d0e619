// An output channel's transformed weights as integers, all with one factor: the largest for which the weights stay in
// 16 bits, and every sum of products in 32, whatever the image.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/quantizer.hpp"

namespace fastsr {

class IntegerFilter {
 public:
  // exact: the weights, [sum][part][channel]: products of term (sum mod terms) of all parts and channels are added up.
  IntegerFilter(std::vector<double> exact, int parts, int channels, const Transform& transform,
                const Quantizer& quantizer);

  // What one unit of the sums is worth.
  float unit() const { return unit_; }
  // The weights of channels 2 input and 2 input + 1.
  Cell pair(int sum, int part, int input) const;

 private:
  int parts_;
  int channels_;
  std::vector<std::int16_t> values_;
  float unit_ = 0;
};

}  // namespace fastsr
