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

}  // namespace

std::size_t winograd9_scratch(int inputs, int channels) {
  return static_cast<std::size_t>(kPartTerms * (part_panel(inputs) + kParts * channels * kPartLanes));
}

bool pack_winograd9(const Node& node, const float* weight, const float* bias, int max_block, PackedWinograd9& out) {
  out.inputs = node.input_channels;
  out.channels = node.channels;
  const int rows = kParts * node.channels;
  const auto channels = static_cast<std::size_t>(node.channels);
  if (!out.weights.allocate(static_cast<std::size_t>(kPartTerms * kParts * rows) *
                            static_cast<std::size_t>(out.inputs)) ||
      !out.bias.allocate(channels)) {
    return false;
  }
  for (std::size_t k = 0; k < channels; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  out.blocks = cut_evenly(0, rows, max_block);
  float* to = out.weights.data();
  for (int term = 0; term < kPartTerms; ++term) {
    for (const WinogradBlock& block : out.blocks) {
      for (int c = 0; c < out.inputs; ++c) {
        for (int t = 0; t < kParts; ++t) {
          for (int row = block.k0; row < block.k0 + block.count; ++row) {
            const int s = row / out.channels, k = row % out.channels;
            const float* kernel = weight + (std::ptrdiff_t{k} * out.inputs + c) * kKernel * kKernel;
            *to++ = static_cast<float>(term_of(kernel + (s * kKernel + t) * kPartRows, term));
          }
        }
      }
    }
  }
  return true;
}

}  // namespace fastsr
