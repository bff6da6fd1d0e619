#include <cstring>

#include "cpu/kernels.hpp"

namespace fastsr {
namespace {

std::uint32_t rounded(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// As few and as equal parts as possible, of at most kTileColumns.
void cut_tiles(int all, int& size, int& count) {
  count = (all + kTileColumns - 1) / kTileColumns;
  size = (all + count - 1) / count;
}

}  // namespace

bool pack_bf16(const Node& node, const float* weight, const float* bias, int max_block, bool in_tiles,
               PackedBf16& out) {
  out.kernel_h = node.kernel_h;
  out.kernel_w = node.kernel_w;
  out.inputs = cells_of(node.input_channels);
  out.channels = node.channels;
  cut_tiles(out.channels, out.tiles.channels, out.tiles.channel_tiles);
  cut_tiles(out.inputs, out.tiles.cells, out.tiles.cell_tiles);
  const TileShape& tiles = out.tiles;
  const int taps = node.kernel_h * node.kernel_w;
  const int count =
      in_tiles ? tiles.channels * tiles.channel_tiles * tiles.cells * tiles.cell_tiles : out.channels * out.inputs;
  if (!out.weights.allocate(static_cast<std::size_t>(count) * static_cast<std::size_t>(taps)) ||
      !out.bias.allocate(static_cast<std::size_t>(out.channels))) {
    return false;
  }
  for (int k = 0; k < out.channels; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  const auto pair = [&](int k, int cell, int tap) {
    std::uint32_t bits = 0;
    for (int half = 0; half < 2; ++half) {
      const int c = 2 * cell + half;
      if (c >= node.input_channels) continue;
      bits |= rounded(weight[(std::ptrdiff_t{k} * node.input_channels + c) * taps + tap]) << (16 * half);
    }
    return static_cast<Cell>(bits);
  };
  Cell* to = reinterpret_cast<Cell*>(out.weights.data());
  if (in_tiles) {
    for (int m = 0; m < tiles.channel_tiles; ++m) {
      const int k0 = tiles.first_channel(m, out.channels);
      for (int p = 0; p < tiles.cell_tiles; ++p) {
        const int first = tiles.first_cell(p, out.inputs), seen = p * tiles.cells;
        for (int tap = 0; tap < taps; ++tap) {
          for (int k = k0; k < k0 + tiles.channels; ++k) {
            for (int cell = first; cell < first + tiles.cells; ++cell) *to++ = cell < seen ? 0 : pair(k, cell, tap);
          }
        }
      }
    }
    return true;
  }
  for (const WinogradBlock& part : cut_evenly(0, out.channels, max_block)) {
    out.blocks.push_back(
        {part.k0, part.count, 0, static_cast<std::size_t>(to - reinterpret_cast<Cell*>(out.weights.data()))});
    for (int ky = 0; ky < node.kernel_h; ++ky) {
      for (int cell = 0; cell < out.inputs; ++cell) {
        for (int kx = 0; kx < node.kernel_w; ++kx) {
          for (int k = part.k0; k < part.k0 + part.count; ++k) *to++ = pair(k, cell, ky * node.kernel_w + kx);
        }
      }
    }
  }
  return true;
}

}  // namespace fastsr
