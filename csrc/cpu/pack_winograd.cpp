#include <algorithm>

#include "cpu/winograd.hpp"

namespace fastsr {
namespace {

constexpr std::ptrdiff_t kFloatsPerLine = static_cast<std::ptrdiff_t>(kCacheLine / sizeof(float));

// The filter's transform, for the points 0, 1, -1, 2, -2 and infinity.
constexpr double kFilter[kTileInputs][3] = {{1.0 / 4, 0, 0},
                                            {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                            {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                            {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                            {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                            {0, 0, 1}};

double term_of(const float* w, int i, int j) {
  double sum = 0;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) sum += kFilter[i][a] * static_cast<double>(w[a * 3 + b]) * kFilter[j][b];
  }
  return sum;
}

// Cut `count` channels from k0 on into parts of at most `most`, as few and as even as possible.
std::vector<WinogradBlock> cut(int k0, int count, int most) {
  std::vector<WinogradBlock> parts;
  const int n = (count + most - 1) / most;
  for (int i = 0; i < n; ++i) {
    const int begin = i * count / n;
    parts.push_back({k0 + begin, (i + 1) * count / n - begin});
  }
  return parts;
}

}  // namespace

std::ptrdiff_t winograd_panel(int input_channels, int channels, int groups) {
  const int passes = (channels + kPassChannels - 1) / kPassChannels;
  const int widest = std::max(input_channels, (channels + passes - 1) / passes);
  // An odd number of cache lines, so that the terms of a channel do not share the cache's sets.
  return (std::ptrdiff_t{widest} * groups * kTilesInGroup / kFloatsPerLine | 1) * kFloatsPerLine;
}

std::size_t winograd_scratch(int input_channels, int channels) {
  // The sums of a single pass take the place of its inputs, one panel before them.
  const std::ptrdiff_t panels = channels <= kPassChannels ? kTileTerms + 1 : 2 * kTileTerms;
  return static_cast<std::size_t>(panels * winograd_panel(input_channels, channels, kMaxGroups));
}

bool pack_winograd(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd& out) {
  out.input_channels = node.input_channels;
  out.channels = node.channels;
  const std::size_t c_count = static_cast<std::size_t>(node.input_channels);
  const std::size_t k_count = static_cast<std::size_t>(node.channels);
  if (!out.weights.allocate(kTileTerms * c_count * k_count) || !out.bias.allocate(k_count)) return false;
  for (std::size_t k = 0; k < k_count; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  float* to = out.weights.data();
  for (const WinogradBlock& part : cut(0, node.channels, kPassChannels)) {
    WinogradPass pass;
    pass.k0 = part.k0;
    pass.count = part.count;
    pass.weights = static_cast<std::size_t>(to - out.weights.data());
    pass.blocks = cut(part.k0, part.count, max_block);
    for (int term = 0; term < kTileTerms; ++term) {
      for (const WinogradBlock& block : pass.blocks) {
        for (std::size_t c = 0; c < c_count; ++c) {
          for (int m = 0; m < block.count; ++m) {
            const std::size_t k = static_cast<std::size_t>(block.k0 + m);
            *to++ = static_cast<float>(term_of(weight + (k * c_count + c) * 9, term / kTileInputs, term % kTileInputs));
          }
        }
      }
    }
    out.passes.push_back(std::move(pass));
  }
  return true;
}

}  // namespace fastsr
