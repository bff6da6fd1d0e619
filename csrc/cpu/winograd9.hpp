// 9x9 kernels with few output channels, as the last layer of SRGAN's generator has: nine kernels of 3x3, each by
// Winograd's F(3x3, 3x3) with 25 products for 9 output pixels (the parts' sum: Huang et al., "DWM: a decomposable
// Winograd method for convolution acceleration", 2020). Tiles are as large as parts, so part (s, t) of tile (i, j)
// reads the inputs of tile (i + s, j + t): each is transformed once for all nine, and of 81 products for a pixel 25 are
// left.
//
// Tile (i, j) is rows 3 i to 3 i + 2 and columns 3 j to 3 j + 2 of the image, and its inputs begin 4 pixels before it.
// The sums of a tile are over part rows, each over (input channel, part column), in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "cpu/winograd.hpp"
#include "graph/graph.hpp"

namespace fastsr {

constexpr int kPartRows = 3;    // output rows, and columns, of a tile; of a part of the kernel, too
constexpr int kParts = 3;       // down, and across
constexpr int kPartInputs = 5;  // input rows, and columns, of a tile
constexpr int kPartTerms = 25;  // products of a tile and a part
constexpr int kPartLanes = 48;  // tiles whose inputs are transformed at once
constexpr int kPartTiles = kPartLanes - (kParts - 1);  // of which so many are complete
constexpr int kMaxPartOutputs = 4;                     // output channels up to which the algorithm pays
constexpr int kLeastPartInputs = 4;                    // input channels from which on

struct PackedWinograd9 {
  int inputs = 0;  // input channels; in integers, their cells
  int channels = 0;
  std::vector<WinogradBlock> blocks;  // of rows (part row, output channel)
  AlignedFloats weights;              // [term][block][input][part column][count]; in integers, cells
  AlignedFloats scale;                // in integers: what one unit of a channel's sums is worth
  AlignedFloats bias;
};

// From one term's inputs to the next, in floats.
constexpr std::ptrdiff_t part_panel(int inputs) {
  return ((std::ptrdiff_t{inputs} * kPartLanes / 16 + 1) | 1) * 16;  // an odd number of cache lines
}

// Floats that a thread needs.
std::size_t winograd9_scratch(int inputs, int channels);

// The inputs of tiles in row u: added to the sums of the tiles in rows u, u - 1 and u - 2, of which the last are then
// complete. To be called with each u in turn; sums begin with those of row u.
struct Winograd9Row {
  const PackedWinograd9* conv = nullptr;
  const float* x[kPartInputs] = {};  // or cells; at the first input column; nullptr: outside of the image
  std::ptrdiff_t x_pitch = 0;
  std::int64_t u = 0;
  int tiles = 0;             // side by side, at most kPartTiles
  float* y[kPartRows] = {};  // of the complete tiles, at their first column; nullptr: not wanted
  std::ptrdiff_t y_pitch = 0;
  int y_width = 0;    // columns that exist
  bool last = false;  // of the row
  const BoundStep* steps[kPartRows] = {};
  int step_count = 0;
  std::int64_t y_begin = 0;  // the first column, as the steps' operands count
  float* scratch = nullptr;  // the same for each u
};

// Transform a (K, C, 9, 9) weight; max_block: rows of a level's register block. False: no memory.
bool pack_winograd9(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd9& out);
// The same for integers, which `quantizer` makes of the input.
bool pack_winograd9_int(const Node& node, const float* weight, const float* bias, const Quantizer& quantizer,
                        int max_block, PackedWinograd9& out);

}  // namespace fastsr
