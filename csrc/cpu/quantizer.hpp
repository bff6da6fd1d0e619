// What the integers of a value mean: channel c of a pixel is scale[c] times an integer q, low[c] <= q <= high[c].
//
// The step is as fine as Winograd's algorithm in 16 bits allows. Each term of a tile is a sum of integers with small
// whole factors, so it is exact, and scale is the least for which no tile of integers in low..high leaves 16 bits: for
// tiles of 4x4 some 480 to 650 steps between a channel's ends, more than 8 bits have. Zero is always a step: what lies
// outside of the image is zero in integers too.
#pragma once

#include "core/aligned.hpp"
#include "cpu/winograd.hpp"
#include "cpu/winograd9.hpp"

namespace fastsr {

// Arrays of 2 * cells_of(channels) numbers; what a missing odd channel has makes it zero.
struct Quantizer {
  AlignedFloats scale;
  AlignedFloats inverse;  // 1 / scale
  AlignedFloats low;
  AlignedFloats high;
};

// A row of an input's transform: its factors above zero add up to `positive`, those below to -`negative`.
struct TermReach {
  int positive;
  int negative;
};

// The transform of a tile of `inputs` rows and columns.
struct Transform {
  const TermReach* rows;
  int inputs;

  int terms() const { return inputs * inputs; }
  // The largest value of a term of a tile of integers low..high; the least is -largest_term(term, -high, -low).
  constexpr double largest_term(int term, double low, double high) const {
    const TermReach a = rows[term / inputs], b = rows[term % inputs];
    return (a.positive * b.positive + a.negative * b.negative) * high -
           (a.positive * b.negative + a.negative * b.positive) * low;
  }
};

constexpr TermReach kTileReach[kTileInputs] = {{5, 5}, {2, 8}, {5, 5}, {3, 3}, {3, 3}, {5, 5}};
constexpr Transform kTileTransform{kTileReach, kTileInputs};
constexpr TermReach kPartReach[kPartInputs] = {{3, 3}, {1, 3}, {3, 3}, {1, 1}, {3, 3}};
constexpr Transform kPartTransform{kPartReach, kPartInputs};

// ranges: the least and the largest value, [2][channels / span]: of each `span` channels side by side; zero is taken
// in. False: no memory.
bool make_quantizer(const float* ranges, int channels, int span, const Transform& transform, Quantizer& out);

}  // namespace fastsr
