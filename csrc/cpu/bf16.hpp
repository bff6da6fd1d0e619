// Direct convolution of bf16 values, with sums in floats: for processors that multiply pairs of them in one instruction
// (AVX-512 BF16), or whole tiles (AMX). Elsewhere it runs, too, but fp32 is faster.
//
// A row of bf16 values is a plain row of cells: two neighbouring channels of a pixel in 32 bits, the even one in the
// low half. Inputs and weights are rounded half to even; bias and steps are in floats. Results are the same whatever
// the strip, the threads or the region, but depend on the level: instructions add up their products in orders of their
// own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "cpu/conv.hpp"
#include "graph/graph.hpp"

namespace fastsr {

constexpr int kBf16Stripe = 96;   // columns whose sums are kept at once: whole vectors, register blocks and tiles
constexpr int kTileColumns = 16;  // AMX: the pixels of a tile, and the most rows that one has

// AMX: output channels and cells are cut into tiles of equal size, of which the last may overlap the one before; then
// its weights of cells that were seen are zero.
struct TileShape {
  int channels = 0;  // output channels of a tile
  int channel_tiles = 0;
  int cells = 0;  // of a tile
  int cell_tiles = 0;

  int first_channel(int tile, int all) const { return tile + 1 < channel_tiles ? tile * channels : all - channels; }
  int first_cell(int tile, int all) const { return tile + 1 < cell_tiles ? tile * cells : all - cells; }
};

struct PackedBf16 {
  int kernel_h = 1;
  int kernel_w = 1;
  int inputs = 0;  // cells
  int channels = 0;
  std::vector<ConvBlock> blocks;  // weights: [kh][cell][kw][count]
  TileShape tiles;                // AMX, weights: [channel tile][cell tile][kh][kw][channel][cell]
  AlignedFloats weights;          // cells
  AlignedFloats bias;
};

struct Bf16Row {
  const PackedBf16* conv = nullptr;
  const float* rows[kMaxKernelRows] = {};  // of cells; nullptr: outside of the image
  std::ptrdiff_t x_pitch = 0;
  float* y = nullptr;  // floats, or cells
  std::ptrdiff_t y_pitch = 0;
  bool y_bf16 = false;
  std::int64_t x0 = 0;
  std::int64_t x1 = 0;
  std::int64_t width = 0;  // of the whole row: the segment that ends here clears the pad
  const BoundStep* steps = nullptr;
  int step_count = 0;
  float* scratch = nullptr;  // kBf16Stripe for each output channel
};

// Rows of floats become rows of cells.
struct Bf16Copy {
  const float* x = nullptr;
  std::ptrdiff_t x_pitch = 0;
  float* y = nullptr;
  std::ptrdiff_t y_pitch = 0;
  int channels = 0;
  std::int64_t width = 0;
};

// Round a (K, C, kh, kw) weight; max_block: output channels of a level's register block; in_tiles: for AMX. False: no
// memory.
bool pack_bf16(const Node& node, const float* weight, const float* bias, int max_block, bool in_tiles, PackedBf16& out);

}  // namespace fastsr
