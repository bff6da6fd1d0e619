// What the integers of a value mean: channel c of a pixel is scale[c] times an integer q, low[c] <= q <= high[c].
//
// The step is as fine as Winograd's algorithm in 16 bits allows. Each term of a tile is a sum of 36 integers with small
// whole factors, so it is exact, and scale is the least for which no tile of integers in low..high leaves 16 bits: some
// 480 to 650 steps between a channel's ends, more than 8 bits have. Zero is always a step: what lies outside of the
// image is zero in integers too.
#pragma once

#include "core/aligned.hpp"
#include "cpu/winograd.hpp"

namespace fastsr {

// Arrays of 2 * cells_of(channels) numbers; what a missing odd channel has makes it zero.
struct Quantizer {
  AlignedFloats scale;
  AlignedFloats inverse;  // 1 / scale
  AlignedFloats low;
  AlignedFloats high;
};

// ranges: the least and the largest value of each channel, [2][channels]; zero is taken in. False: no memory.
bool make_quantizer(const float* ranges, int channels, Quantizer& out);

// The factors of the input's transform: term i of a tile's row reads at most `positive` times its largest pixel and
// `negative` times its least.
struct TermReach {
  int positive;
  int negative;
};
constexpr TermReach kTermReach[kTileInputs] = {{5, 5}, {2, 8}, {5, 5}, {3, 3}, {3, 3}, {5, 5}};

// The largest value of term (i, j) of a tile of integers low..high; the least is -largest_term(i, j, -high, -low).
constexpr double largest_term(int i, int j, double low, double high) {
  const TermReach a = kTermReach[i], b = kTermReach[j];
  return (a.positive * b.positive + a.negative * b.negative) * high -
         (a.positive * b.negative + a.negative * b.positive) * low;
}

}  // namespace fastsr
