// What every ISA level offers: one table of functions, all compiled from kernels.inl.
//
// Rows are planar: channel c of a row starts `pitch` floats after channel c - 1. Column 0 of a row is the first
// column of its value's window; kRowPad floats before it and after its last column may be read, and are zero
// where the window ends at the image's border. Kernels may overwrite up to a vector beyond the last column;
// conv and pointwise make that zero again.
//
// All levels compute each output pixel with the same operations in the same order, fused multiply-adds
// included, so they agree to the bit; in bf16 each adds up products in an order of its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "core/image.hpp"
#include "cpu/bf16.hpp"
#include "cpu/conv.hpp"
#include "cpu/quantizer.hpp"
#include "cpu/winograd.hpp"
#include "cpu/winograd9.hpp"
#include "graph/graph.hpp"
#include "graph/resize.hpp"

namespace fastsr {

constexpr int kMaxShuffle = 16;

// y[c][x] = steps(x[c][x]).
struct PointwiseRow {
  const float* x = nullptr;
  std::ptrdiff_t x_pitch = 0;
  float* y = nullptr;
  std::ptrdiff_t y_pitch = 0;
  int channels = 0;
  std::int64_t width = 0;
  const BoundStep* steps = nullptr;
  int step_count = 0;
};

// factor output rows from one input row: y[dy][c][f x + dx] = x[(c f + dy) f + dx][x].
// The input is plain; tiled; or packed, then factor is 2, channels that become one have one step, and y is in cells.
struct ShuffleRow {
  const float* x = nullptr;  // plain: column 0; else the first block
  Layout x_layout = Layout::plain;
  std::ptrdiff_t x_pitch = 0;  // plain
  std::int64_t x_begin = 0;    // tiled, packed: column 0, from the first block's column 0
  std::int64_t blocks = 0;     // likewise
  float* y[kMaxShuffle] = {};
  std::ptrdiff_t y_pitch = 0;
  int channels = 0;  // of y
  int factor = 1;
  std::int64_t width = 0;    // of x
  std::int64_t y_width = 0;  // of y
};

// One output row of an enlargement: a weighted sum of `taps` rows, then for each phase of `taps` columns.
//   row_weights[taps]; column_weights[factor][taps], first column of phase p: x + column_start[p]
//   scratch: x_width + 3 kRowPad floats; left, right: the window ends at the image's border, whose pixel repeats
struct ResizeRow {
  const float* rows[kMaxTaps] = {};
  float row_weights[kMaxTaps] = {};
  int taps = 1;
  int factor = 1;
  const float* column_weights = nullptr;
  const int* column_start = nullptr;
  std::ptrdiff_t x_pitch = 0;
  std::int64_t x_width = 0;
  std::int64_t x_begin = 0;  // output column 0 belongs to this input column of the window
  bool left = false;
  bool right = false;
  float* scratch = nullptr;
  float* y = nullptr;
  std::ptrdiff_t y_pitch = 0;
  std::int64_t width = 0;  // of y
  int channels = 0;
};

// Pixels to planar floats: y[c][x] = pixel * gain + offset.
struct LoadRow {
  const unsigned char* pixels = nullptr;
  PixelType type = PixelType::u8;
  std::ptrdiff_t pixel_stride = 0;
  std::ptrdiff_t channel_stride = 0;
  float gain = 1;
  float offset = 0;
  float* y = nullptr;
  std::ptrdiff_t y_pitch = 0;
  int channels = 0;
  std::int64_t width = 0;
};

// Planar floats to one row of pixels: value * gain + offset, rounded half to even and clamped to low..high where
// the pixels are integers. factor > 1: channel (c f + dy) f + dx holds pixel f x + dx of channel c.
struct StoreRow {
  const float* x = nullptr;
  std::ptrdiff_t x_pitch = 0;
  int factor = 1;
  int dy = 0;
  std::int64_t width = 0;  // of x
  float gain = 1;
  float offset = 0;
  float low = 0;
  float high = 0;
  unsigned char* pixels = nullptr;
  PixelType type = PixelType::u8;
  std::ptrdiff_t pixel_stride = 0;
  std::ptrdiff_t channel_stride = 0;
  int channels = 0;
};

struct Kernels {
  const char* name;
  int max_block;       // output channels of the largest ConvBlock
  int max_tile_block;  // and of the largest WinogradBlock of a 3x3 layer
  int max_part_block;  // and of a 9x9 one
  bool bf16_tiles;     // weights of conv_bf16 are for AMX
  void (*conv)(const ConvRow&);
  void (*conv_bf16)(const Bf16Row&);
  void (*copy_bf16)(const Bf16Copy&);
  void (*winograd)(const WinogradPiece&);
  void (*winograd_int)(const WinogradPiece&);
  void (*winograd9)(const Winograd9Row&);
  void (*winograd9_int)(const Winograd9Row&);
  void (*relayout)(const RelayoutRow&);
  void (*pack)(const RelayoutRow&);
  void (*pointwise)(const PointwiseRow&);
  void (*shuffle)(const ShuffleRow&);
  void (*resize)(const ResizeRow&);
  bool (*load)(const LoadRow&);  // false: a pixel is NaN or infinite
  void (*store)(const StoreRow&);
  // Rows and pieces of tiles convolved so far at this level: proof that it ran.
  std::atomic<std::uint64_t>* conv_rows;
};

extern const Kernels kScalar;
extern const Kernels kAvx2;
extern const Kernels kAvx2Vnni;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
extern const Kernels kAvx512Bf16;  // and VNNI
extern const Kernels kAmxBf16;     // and both

// Reorder a (K, C / groups, kh, kw) weight for a level. Returns false when there is no memory.
bool pack_conv(const Node& node, const float* weight, const float* bias, const Kernels& kernels, PackedConv& out);

}  // namespace fastsr
