#include <algorithm>

#include "cpu/integer_filter.hpp"
#include "cpu/quantizer.hpp"
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

// In integers the terms' weights are made alike in size by these powers of two, so that each is rounded as little as
// the others; the output's transform divides by them (transform_output_int in winograd.inl).
constexpr double kTermScale[kTileInputs] = {1, 1, 1, 2, 2, 0.25};

double term_of(const float* w, int i, int j) {
  double sum = 0;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) sum += kFilter[i][a] * static_cast<double>(w[a * 3 + b]) * kFilter[j][b];
  }
  return sum;
}

// Lay out the weights; value(k, input, term) is one of them, a float or a cell.
template <class Number, class Value>
void lay_out(PackedWinograd& out, int max_block, const Value& value) {
  Number* const begin = reinterpret_cast<Number*>(out.weights.data());
  Number* to = begin;
  for (const WinogradBlock& cells : cut_evenly(0, cells_of(out.channels), kPassChannels / 2)) {  // no pass parts a cell
    WinogradPass pass;
    pass.k0 = 2 * cells.k0;
    pass.count = std::min(2 * cells.count, out.channels - pass.k0);
    pass.weights = static_cast<std::size_t>(to - begin);
    pass.blocks = cut_evenly(pass.k0, pass.count, max_block);
    for (int term = 0; term < kTileTerms; ++term) {
      for (const WinogradBlock& block : pass.blocks) {
        for (int input = 0; input < out.inputs; ++input) {
          for (int k = block.k0; k < block.k0 + block.count; ++k) *to++ = value(k, input, term);
        }
      }
    }
    out.passes.push_back(std::move(pass));
  }
}

bool allocate(PackedWinograd& out, int inputs, int channels, const float* bias) {
  out.inputs = inputs;
  out.channels = channels;
  const auto k_count = static_cast<std::size_t>(channels);
  if (!out.weights.allocate(kTileTerms * static_cast<std::size_t>(inputs) * k_count) || !out.bias.allocate(k_count)) {
    return false;
  }
  for (std::size_t k = 0; k < k_count; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  return true;
}

// From one channel's panel to the next an odd number of cache lines, so that the terms do not share the cache's sets.
std::ptrdiff_t panel_of(int channels, int groups) {
  return (std::ptrdiff_t{channels} * groups * kTilesInGroup / kFloatsPerLine | 1) * kFloatsPerLine;
}

}  // namespace

std::vector<WinogradBlock> cut_evenly(int k0, int count, int most) {
  std::vector<WinogradBlock> parts;
  const int n = (count + most - 1) / most;
  for (int i = 0; i < n; ++i) {
    const int begin = i * count / n;
    parts.push_back({k0 + begin, (i + 1) * count / n - begin});
  }
  return parts;
}

WinogradScratch winograd_scratch(int inputs, int channels, int groups) {
  const int passes = (channels + kPassChannels - 1) / kPassChannels;
  WinogradScratch s;
  s.input_panel = panel_of(inputs, groups);
  s.sum_panel = panel_of(std::min(channels, 2 * ((cells_of(channels) + passes - 1) / passes)), groups);
  if (passes == 1) {
    // Each term's sums take the place of inputs that have been read: they end where its own inputs begin.
    s.inputs = std::max(kTileTerms * s.sum_panel - (kTileTerms - 1) * s.input_panel, s.sum_panel);
  } else {
    s.inputs = kTileTerms * s.sum_panel;
  }
  s.size = static_cast<std::size_t>(std::max(s.inputs + kTileTerms * s.input_panel, kTileTerms * s.sum_panel));
  return s;
}

bool pack_winograd(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd& out) {
  if (!allocate(out, node.input_channels, node.channels, bias)) return false;
  lay_out<float>(out, max_block, [&](int k, int input, int term) {
    return static_cast<float>(
        term_of(weight + (k * node.input_channels + input) * 9, term / kTileInputs, term % kTileInputs));
  });
  return true;
}

bool pack_winograd_int(const Node& node, const float* weight, const float* bias, const Quantizer& quantizer,
                       int max_block, PackedWinograd& out) {
  if (!allocate(out, cells_of(node.input_channels), node.channels, bias) ||
      !out.scale.allocate(static_cast<std::size_t>(node.channels))) {
    return false;
  }
  std::vector<IntegerFilter> filters;
  filters.reserve(static_cast<std::size_t>(node.channels));
  for (int k = 0; k < node.channels; ++k) {
    std::vector<double> exact;
    for (int term = 0; term < kTileTerms; ++term) {
      const int i = term / kTileInputs, j = term % kTileInputs;
      for (int c = 0; c < node.input_channels; ++c) {
        exact.push_back(term_of(weight + (std::ptrdiff_t{k} * node.input_channels + c) * 9, i, j) * kTermScale[i] *
                        kTermScale[j]);
      }
    }
    filters.emplace_back(std::move(exact), 1, node.input_channels, kTileTransform, quantizer);
    out.scale.data()[k] = filters.back().unit();
  }
  lay_out<Cell>(out, max_block,
                [&](int k, int input, int term) { return filters[static_cast<std::size_t>(k)].pair(term, 0, input); });
  return true;
}

}  // namespace fastsr
