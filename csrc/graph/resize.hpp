// The arithmetic of enlargements, the same for all that compute them.
#pragma once

#include "graph/graph.hpp"

namespace fastsr {

constexpr int kMaxTaps = 4;

// An output pixel as a sum of input pixels, along one axis.
struct Taps {
  int count = 1;
  int start = 0;  // first tap's distance from the input pixel
  float weights[kMaxTaps] = {1};
};

// The taps of output pixels at phase `phase` of an enlargement with pixel centres at half-integers.
Taps taps_of(const Node& node, int phase);

}  // namespace fastsr
