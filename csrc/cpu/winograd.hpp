// Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016): a tile of 4x4
// output pixels from 6x6 input pixels with 36 products instead of 144.
//
// A group is 16 tiles side by side: 4 rows of 64 columns, which begin at a multiple of 64 of the image's columns. A row
// of a tiled value is a run of blocks [channel][pixel x mod 4][tile], 64 floats a channel, so that the six columns of
// all tiles are whole vectors. Behind each block are its first and its last column, [first, last][channel], which its
// neighbours read together. Blocks are whole cache lines: two threads that make neighbours write to none in common.
//
// In integers the same holds for pairs of channels: a cell is 32 bits, two neighbouring channels of a pixel as 16-bit
// integers, and stands where a float of one channel stands otherwise. quantizer.hpp says what the integers mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "graph/graph.hpp"

namespace fastsr {

struct BoundStep;
struct Quantizer;

// Two 16-bit integers, the even channel in the low half. It may lie in memory that holds floats elsewhere.
typedef std::int32_t Cell __attribute__((may_alias));

// Cells that hold so many channels.
constexpr int cells_of(int channels) { return (channels + 1) / 2; }

constexpr int kTileRows = 4;       // output rows, and columns, of a tile
constexpr int kTileInputs = 6;     // input rows, and columns
constexpr int kTileTerms = 36;     // products of a tile
constexpr int kTilesInGroup = 16;  // side by side
constexpr int kBlockColumns = kTilesInGroup * kTileRows;
// Words of a block of so many channels, or cells.
constexpr std::ptrdiff_t block_words(std::ptrdiff_t channels) {
  return ((kBlockColumns + 2) * channels + 15) / 16 * 16;
}

constexpr int kMaxBlockChannels = 10;  // output channels that any level computes at once
constexpr int kMaxOperands = 4;        // rows that the steps of one layer add or multiply
constexpr int kLeastProduct = 32;      // of input and output channels, from which on the algorithm pays

struct WinogradBlock {
  int k0 = 0;
  int count = 0;
};

// Cut `count` channels from k0 on into blocks of at most `most`, as few and as even as possible.
std::vector<WinogradBlock> cut_evenly(int k0, int count, int most);

// Weights: [block][term][c][channel of the block], with a channel of zeros behind an odd last one.
struct PackedWinograd {
  int inputs = 0;  // input channels; in integers, their cells
  int channels = 0;
  std::vector<WinogradBlock> blocks;
  AlignedFloats weights;  // in integers, cells
  AlignedFloats scale;    // in integers: what one unit of a channel's sums is worth
  AlignedFloats bias;
};

// Where a layer's panels lie in its scratch memory, in floats, or cells: two of sums, then two of inputs, each
// [term][channel][tile].
struct WinogradScratch {
  std::ptrdiff_t input_panel = 0;  // from one term's inputs to the next
  std::ptrdiff_t sum_panel = 0;    // likewise of the sums
  std::ptrdiff_t input_size = 0, sum_size = 0;
  std::ptrdiff_t inputs = 0;  // where they begin
  std::size_t size = 0;
};
WinogradScratch winograd_scratch(int inputs, int channels);

// One group. Plain rows are given at the group's column 0, channel 0, tiled ones at the block.
struct TileGroup {
  const float* x[kTileInputs] = {};        // nullptr: outside of the image
  const float* x_left[kTileInputs] = {};   // tiled: the column before the block, [channel]; nullptr: there is none
  const float* x_right[kTileInputs] = {};  // and the one behind it
  float* y[kTileRows] = {};                // nullptr: not wanted
  const float* other[kMaxOperands][kTileRows] = {};
  bool last = false;  // of the row
  // Columns of the group that exist: of x (plain), which has kRowPad more on either side; of y.
  int x_begin = 0, x_end = kBlockColumns;
  int y_begin = 0, y_end = kBlockColumns;
  int image_end = kBlockColumns;  // columns from here on are outside of the image
};

// y = steps(bias + convolution of x) for one group after the other.
struct WinogradPiece {
  const PackedWinograd* conv = nullptr;
  Layout x_layout = Layout::plain;
  Layout y_layout = Layout::plain;
  const Quantizer* y_quantizer = nullptr;  // packed
  std::ptrdiff_t x_pitch = 0;              // plain
  std::ptrdiff_t y_pitch = 0;              // plain
  std::ptrdiff_t other_pitch[kMaxOperands] = {};
  const BoundStep* steps = nullptr;
  int step_count = 0;
  // The next group, if there is one. It is asked for while the one before is computed.
  bool (*next)(void* context, TileGroup& group) = nullptr;
  void* context = nullptr;
  float* scratch = nullptr;
};

// One row of a plain value, into tiles, or into tiles of cells.
struct RelayoutRow {
  const float* x = nullptr;
  std::ptrdiff_t x_pitch = 0;
  std::int64_t x_begin = 0;  // column 0 of x, from the first block's column 0
  std::int64_t width = 0;
  float* y = nullptr;
  const Quantizer* quantizer = nullptr;  // packed
  int channels = 0;
  std::int64_t blocks = 0;
};

// Transform a (K, C, 3, 3) weight; max_block: output channels of a level's register block. False: no memory.
bool pack_winograd(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd& out);
// The same for integers, which `quantizer` makes of the input.
bool pack_winograd_int(const Node& node, const float* weight, const float* bias, const Quantizer& quantizer,
                       int max_block, PackedWinograd& out);

}  // namespace fastsr
