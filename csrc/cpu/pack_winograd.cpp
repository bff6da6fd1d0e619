#include <algorithm>

#include "cpu/integer_filter.hpp"
#include "cpu/quantizer.hpp"
#include "cpu/winograd.hpp"

namespace fastsr {
namespace {

constexpr int kFloatsPerLine = kCacheLine / sizeof(float);

// In integers the terms' weights are made alike in size by these powers of two, so that each is rounded as little as
// the others; the output's transform divides by them (output_half_int in tile_transforms.inl).
constexpr double kTermScale[kTileInputs] = {1, 1, 1, 2, 2, 0.25};

// The filter's transform along one axis, for the points 0, 1, -1, 2, -2 and infinity.
void transform(double w0, double w1, double w2, double* u, int step) {
  const double ends = w0 + w2, wide = w0 + 4 * w2;
  u[0] = w0 / 4;
  u[step] = (ends + w1) * (-1.0 / 6);
  u[2 * step] = (ends - w1) * (-1.0 / 6);
  u[3 * step] = (wide + 2 * w1) * (1.0 / 24);
  u[4 * step] = (wide - 2 * w1) * (1.0 / 24);
  u[5 * step] = w2;
}

// The transform of a 3x3 filter: its kTileTerms terms.
void transform(const float* w, double* u) {
  double columns[kTileInputs * 3];
  for (int b = 0; b < 3; ++b) {
    transform(static_cast<double>(w[b]), static_cast<double>(w[3 + b]), static_cast<double>(w[6 + b]), columns + b, 3);
  }
  for (int i = 0; i < kTileInputs; ++i) {
    const double* row = columns + 3 * i;
    transform(row[0], row[1], row[2], u + kTileInputs * i, 1);
  }
}

// Lay out the weights; terms(k, input, u) fills in the terms of one filter, or of the filters of one cell. False: no
// memory.
template <class Number, class Terms>
bool lay_out(PackedWinograd& out, int max_block, const Terms& terms) {
  const auto inputs = static_cast<std::size_t>(out.inputs);
  // From one term to the next of a block, so that they do not share the cache's sets.
  const std::size_t pitch = inputs * static_cast<std::size_t>(max_block) + std::size_t{kFloatsPerLine};
  AlignedFloats memory;  // [term][input][k] of one block
  if (!memory.allocate(kTileTerms * pitch)) return false;
  Number* const some = reinterpret_cast<Number*>(memory.data());
  Number* to = reinterpret_cast<Number*>(out.weights.data());
  for (const WinogradBlock& cells : cut_evenly(0, cells_of(out.channels), max_block / 2)) {  // no block parts a cell
    const int k0 = 2 * cells.k0;
    out.blocks.push_back({k0, std::min(2 * cells.count, out.channels - k0)});
    const std::size_t size = inputs * static_cast<std::size_t>(2 * cells.count);
    Number* next = some;
    for (int input = 0; input < out.inputs; ++input) {
      for (int k = k0; k < k0 + 2 * cells.count; ++k, ++next) {
        Number u[kTileTerms] = {};
        if (k < out.channels) terms(k, input, u);
        for (std::size_t term = 0; term < kTileTerms; ++term) next[term * pitch] = u[term];
      }
    }
    for (std::size_t term = 0; term < kTileTerms; ++term, to += size) std::copy_n(some + term * pitch, size, to);
  }
  return true;
}

bool allocate(PackedWinograd& out, int inputs, int channels, const float* bias) {
  out.inputs = inputs;
  out.channels = channels;
  const auto k_count = static_cast<std::size_t>(channels);
  if (!out.weights.allocate(kTileTerms * static_cast<std::size_t>(inputs) * ((k_count + 1) / 2 * 2)) ||
      !out.bias.allocate(k_count)) {
    return false;
  }
  for (std::size_t k = 0; k < k_count; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  return true;
}

// From one term's panel to the next an odd number of cache lines, so that the terms do not share the cache's sets.
std::ptrdiff_t panel_of(int channels) {
  return (std::ptrdiff_t{channels} * kTilesInGroup / kFloatsPerLine | 1) * kFloatsPerLine;
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

WinogradScratch winograd_scratch(int inputs, int channels) {
  WinogradScratch s;
  s.input_panel = panel_of(inputs);
  s.sum_panel = panel_of(std::min(2 * cells_of(channels), kMaxBlockChannels));
  s.input_size = kTileTerms * s.input_panel;
  s.sum_size = kTileTerms * s.sum_panel;
  s.inputs = 2 * s.sum_size;
  s.size = static_cast<std::size_t>(s.inputs + 2 * s.input_size);
  return s;
}

bool pack_winograd(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd& out) {
  if (!allocate(out, node.input_channels, node.channels, bias)) return false;
  const int C = node.input_channels;
  return lay_out<float>(out, max_block, [&](int k, int input, float* to) {
    double u[kTileTerms];
    transform(weight + std::ptrdiff_t{k * C + input} * 9, u);
    for (int term = 0; term < kTileTerms; ++term) to[term] = static_cast<float>(u[term]);
  });
}

bool pack_winograd_int(const Node& node, const float* weight, const float* bias, const Quantizer& quantizer,
                       int max_block, PackedWinograd& out) {
  if (!allocate(out, cells_of(node.input_channels), node.channels, bias) ||
      !out.scale.allocate(static_cast<std::size_t>(node.channels))) {
    return false;
  }
  const auto C = static_cast<std::size_t>(node.input_channels);
  std::vector<IntegerFilter> filters;
  filters.reserve(static_cast<std::size_t>(node.channels));
  for (int k = 0; k < node.channels; ++k) {
    std::vector<double> exact(kTileTerms * C);  // [term][c]
    for (std::size_t c = 0; c < C; ++c, weight += 9) {
      double u[kTileTerms];
      transform(weight, u);
      for (std::size_t term = 0; term < kTileTerms; ++term) {
        exact[term * C + c] = u[term] * kTermScale[term / kTileInputs] * kTermScale[term % kTileInputs];
      }
    }
    filters.emplace_back(std::move(exact), 1, node.input_channels, kTileTransform, quantizer);
    out.scale.data()[k] = filters.back().unit();
  }
  return lay_out<Cell>(out, max_block, [&](int k, int input, Cell* to) {
    for (int term = 0; term < kTileTerms; ++term) to[term] = filters[static_cast<std::size_t>(k)].pair(term, 0, input);
  });
}

}  // namespace fastsr
