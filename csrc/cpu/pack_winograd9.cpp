#include "cpu/integer_filter.hpp"
#include "cpu/winograd9.hpp"

namespace fastsr {
namespace {

constexpr int kKernel = kParts * kPartRows;

// The filter's transform, for the points 0, 1, -1, 2 and infinity.
constexpr double kFilter[kPartInputs][kPartRows] = {{1.0 / 2, 0, 0},
                                                    {-1.0 / 2, -1.0 / 2, -1.0 / 2},
                                                    {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                                    {1.0 / 6, 1.0 / 3, 2.0 / 3},
                                                    {0, 0, 1}};

// w: the part's first weight, in a 9x9 kernel.
double term_of(const float* w, int term) {
  const double *rows = kFilter[term / kPartInputs], *columns = kFilter[term % kPartInputs];
  double sum = 0;
  for (int a = 0; a < kPartRows; ++a) {
    for (int b = 0; b < kPartRows; ++b) sum += rows[a] * static_cast<double>(w[a * kKernel + b]) * columns[b];
  }
  return sum;
}

// Lay out the weights; value(k, s, t, input, term) is one of them, a float or a cell.
template <class Number, class Value>
bool lay_out(const Node& node, int inputs, const float* bias, int max_block, PackedWinograd9& out, const Value& value) {
  out.inputs = inputs;
  out.channels = node.channels;
  const int rows = kParts * node.channels;
  const auto channels = static_cast<std::size_t>(node.channels);
  if (!out.weights.allocate(static_cast<std::size_t>(kPartTerms * kParts * rows) * static_cast<std::size_t>(inputs)) ||
      !out.bias.allocate(channels)) {
    return false;
  }
  for (std::size_t k = 0; k < channels; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  out.blocks = cut_evenly(0, rows, max_block);
  Number* to = reinterpret_cast<Number*>(out.weights.data());
  for (int term = 0; term < kPartTerms; ++term) {
    for (const WinogradBlock& block : out.blocks) {
      for (int input = 0; input < inputs; ++input) {
        for (int t = 0; t < kParts; ++t) {
          for (int row = block.k0; row < block.k0 + block.count; ++row) {
            *to++ = value(row % out.channels, row / out.channels, t, input, term);
          }
        }
      }
    }
  }
  return true;
}

// The first weight of part (s, t) of a kernel.
const float* part_of(const Node& node, const float* weight, int k, int c, int s, int t) {
  return weight + (std::ptrdiff_t{k} * node.input_channels + c) * kKernel * kKernel + (s * kKernel + t) * kPartRows;
}

}  // namespace

std::size_t winograd9_scratch(int inputs, int channels) {
  return static_cast<std::size_t>(kPartTerms * (part_panel(inputs) + kParts * channels * kPartLanes));
}

bool pack_winograd9(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd9& out) {
  return lay_out<float>(node, node.input_channels, bias, max_block, out, [&](int k, int s, int t, int c, int term) {
    return static_cast<float>(term_of(part_of(node, weight, k, c, s, t), term));
  });
}

bool pack_winograd9_int(const Node& node, const float* weight, const float* bias, const Quantizer& quantizer,
                        int max_block, PackedWinograd9& out) {
  if (!out.scale.allocate(static_cast<std::size_t>(node.channels))) return false;
  std::vector<IntegerFilter> filters;
  for (int k = 0; k < node.channels; ++k) {
    std::vector<double> exact;
    for (int s = 0; s < kParts; ++s) {
      for (int term = 0; term < kPartTerms; ++term) {
        for (int t = 0; t < kParts; ++t) {
          for (int c = 0; c < node.input_channels; ++c) {
            exact.push_back(term_of(part_of(node, weight, k, c, s, t), term));
          }
        }
      }
    }
    filters.emplace_back(std::move(exact), kParts, node.input_channels, kPartTransform, quantizer);
    out.scale.data()[k] = filters.back().unit();
  }
  return lay_out<Cell>(node, cells_of(node.input_channels), bias, max_block, out,
                       [&](int k, int s, int t, int input, int term) {
                         return filters[static_cast<std::size_t>(k)].pair(s * kPartTerms + term, t, input);
                       });
}

}  // namespace fastsr
