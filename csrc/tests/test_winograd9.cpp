// 9x9 layers in parts, at every ISA level: against plain loops in double, all levels alike to the bit; in integers also
// the sums, for pixels that drive the terms as far as they go.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/isa.hpp"
#include "tests/check.hpp"

using namespace fastsr;

namespace {

constexpr int kKernel = 9;
constexpr int kMaxWidth = 160;
constexpr std::ptrdiff_t kPitch = kMaxWidth + 4 * kRowPad;

std::mt19937 random_source(1);

float random_float(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_source); }

std::size_t at(std::ptrdiff_t index) { return static_cast<std::size_t>(index); }

// The input's transform, straight from its matrix.
constexpr int kInput[kPartInputs][kPartInputs] = {
    {2, -1, -2, 1, 0}, {0, -2, -1, 1, 0}, {0, 2, -3, 1, 0}, {0, -1, 0, 1, 0}, {0, 2, -1, -2, 1}};

struct Layer {
  Layer(int channels, int k) : weight(at(k * channels * kKernel * kKernel)), bias(at(k)), ranges(at(2 * channels)) {
    node.input_channels = channels;
    node.channels = k;
    node.kernel_h = node.kernel_w = kKernel;
    for (float& w : weight) w = random_float(-1, 1);
    for (float& b : bias) b = random_float(-1, 1);
    for (int c = 0; c < channels; ++c) {
      ranges[at(c)] = random_float(-2, 0.2f);
      ranges[at(channels + c)] = std::max(ranges[at(c)], random_float(-0.2f, 2));
    }
    CHECK(make_quantizer(ranges.data(), channels, 1, kPartTransform, quantizer));
  }
  float w(int k, int c, int a, int b) const {
    return weight[at(((k * node.input_channels + c) * kKernel + a) * kKernel + b)];
  }
  Node node;
  std::vector<float> weight, bias, ranges;
  Quantizer quantizer;
};

// An image of `height` rows, in floats or in whole numbers of the quantizer's steps.
struct Image {
  Image(int channels, int height, int width)
      : channels(channels), height(height), width(width), values(at(channels * height * width)) {}
  double& of(int c, int y, int x) { return values[at((c * height + y) * width + x)]; }
  int channels, height, width;
  std::vector<double> values;
};

enum class Fill { random, ends, worst };

void fill(Image& image, const Quantizer& q, Fill how) {
  const int i = static_cast<int>(random_source() % kPartInputs), j = static_cast<int>(random_source() % kPartInputs);
  for (int c = 0; c < image.channels; ++c) {
    const auto low = static_cast<int>(q.low.data()[c]), high = static_cast<int>(q.high.data()[c]);
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        // The tile whose inputs begin at (y - row, x - column), of every second one: tiles overlap.
        const int row = (y + 4) % 6, column = (x + 4) % 6;
        const int factor = row < kPartInputs && column < kPartInputs ? kInput[i][row] * kInput[j][column] : 0;
        double& to = image.of(c, y, x);
        switch (how) {
          case Fill::random: to = std::uniform_int_distribution<int>(low, high)(random_source); break;
          case Fill::ends: to = random_source() % 2 ? low : high; break;
          case Fill::worst: to = factor > 0 ? high : low; break;
        }
      }
    }
  }
}

// What a level makes of the image, all tiles of it from column `first` tiles on: [k][y][x].
std::vector<float> run(const Kernels& kernels, const Layer& layer, Image& image, bool integers, int first_tile) {
  const int k = layer.node.channels, words = integers ? cells_of(image.channels) : image.channels;
  PackedWinograd9 packed;
  const float *weight = layer.weight.data(), *bias = layer.bias.data();
  CHECK(integers ? pack_winograd9_int(layer.node, weight, bias, layer.quantizer, kernels.max_part_block, packed)
                 : pack_winograd9(layer.node, weight, bias, kernels.max_part_block, packed));
  std::vector<std::vector<float>> rows(at(image.height), std::vector<float>(at(words * kPitch)));
  for (int y = 0; y < image.height; ++y) {
    for (int c = 0; c < words; ++c) {
      for (int x = 0; x < image.width; ++x) {
        float& word = rows[at(y)][at(c * kPitch + kRowPad + x)];
        if (integers) {
          const auto half = [&](int channel) {
            const int q = channel < image.channels ? static_cast<int>(image.of(channel, y, x)) : 0;
            return static_cast<std::uint32_t>(q) & 0xffffu;
          };
          const std::uint32_t cell = half(2 * c) | half(2 * c + 1) << 16;
          std::memcpy(&word, &cell, sizeof word);
        } else {
          word = static_cast<float>(image.of(c, y, x) * double{layer.quantizer.scale.data()[c]});
        }
      }
    }
  }
  std::vector<float> y(at(k * image.height * image.width), 99.0f), out(at(kPartRows * k * kPitch));
  AlignedFloats scratch;
  CHECK(scratch.allocate(winograd9_scratch(words, k)));
  std::fill(scratch.data(), scratch.data() + scratch.size(), std::nanf(""));
  const int x0 = first_tile * kPartRows, tiles = (image.width - x0 + kPartRows - 1) / kPartRows;
  Winograd9Row a;
  a.conv = &packed;
  a.x_pitch = kPitch;
  a.tiles = tiles;
  a.y_pitch = kPitch;
  a.y_width = image.width - x0;
  a.last = true;
  a.scratch = scratch.data();
  for (a.u = 0; a.u < (image.height + kPartRows - 1) / kPartRows + kParts - 1; ++a.u) {
    for (int i = 0; i < kPartInputs; ++i) {
      const std::int64_t row = a.u * kPartRows - kKernel / 2 + i;
      const bool inside = row >= 0 && row < image.height;
      a.x[i] = inside ? rows[at(row)].data() + kRowPad + x0 - kKernel / 2 : nullptr;
    }
    std::fill(out.begin(), out.end(), 99.0f);
    const std::int64_t top = (a.u - (kParts - 1)) * kPartRows;
    for (int i = 0; i < kPartRows; ++i) {
      a.y[i] = top >= 0 && top + i < image.height ? out.data() + i * k * kPitch + kRowPad : nullptr;
    }
    const auto before = kernels.conv_rows->load();
    (integers ? kernels.winograd9_int : kernels.winograd9)(a);
    CHECK(kernels.conv_rows->load() == before + 1);
    for (int i = 0; i < kPartRows && top >= 0; ++i) {
      for (int o = 0; o < k && top + i < image.height; ++o) {
        const float* from = a.y[i] + o * kPitch;
        std::copy(from, from + a.y_width, y.begin() + (o * image.height + top + i) * image.width + x0);
        CHECK(from[-1] == 99.0f && from[a.y_width] == 0.0f);  // nothing before it; zeros behind it
      }
    }
  }
  return y;
}

void test_layer(int channels, int k, int height, int width, int first_tile, bool integers, Fill how) {
  Layer layer(channels, k);
  Image image(channels, height, width);
  fill(image, layer.quantizer, how);
  std::vector<float> first;
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    const std::vector<float> y = run(*level.kernels, layer, image, integers, first_tile);
    if (first.empty()) first = y;
    CHECK(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
  }
  for (int o = 0; o < k; ++o) {
    double size = 1e-6;  // of the largest result there can be
    for (int c = 0; c < channels; ++c) {
      const float reach = std::max(-layer.quantizer.low.data()[c], layer.quantizer.high.data()[c]);
      for (int n = 0; n < kKernel * kKernel; ++n) {
        size += std::fabs(double{layer.w(o, c, 0, n)} * double{layer.quantizer.scale.data()[c] * reach});
      }
    }
    for (int y = 0; y < height; ++y) {
      for (int x = first_tile * kPartRows; x < width; ++x) {
        double exact = double{layer.bias[at(o)]};
        for (int c = 0; c < channels; ++c) {
          for (int a = std::max(0, 4 - y); a < std::min(kKernel, height + 4 - y); ++a) {
            for (int b = std::max(0, 4 - x); b < std::min(kKernel, width + 4 - x); ++b) {
              exact += double{layer.w(o, c, a, b)} * double{layer.quantizer.scale.data()[c]} *
                       image.of(c, y + a - 4, x + b - 4);
            }
          }
        }
        const double error = std::fabs(double{first[at((o * height + y) * width + x)]} - exact) / size;
        CHECK(error < (integers ? 0.003 : 2e-6));  // weights are rounded; a sum that wraps around is wrong by far more
      }
    }
  }
}

void test_terms_stay_in_16_bits(int channels) {
  Layer layer(channels, 1);
  for (int c = 0; c < channels; ++c) {
    const double low = double{layer.quantizer.low.data()[c]}, high = double{layer.quantizer.high.data()[c]};
    double most = 0;
    for (int term = 0; term < kPartTerms; ++term) {
      double up = 0;  // from the matrix, not from kPartReach
      for (int a = 0; a < kPartInputs; ++a) {
        for (int b = 0; b < kPartInputs; ++b) {
          const double factor = kInput[term / kPartInputs][a] * kInput[term % kPartInputs][b];
          up += std::max(factor * low, factor * high);
        }
      }
      CHECK(up == kPartTransform.largest_term(term, low, high));
      most = std::max(most, up);
    }
    CHECK(most <= 32767);
    if (high - low > 0) CHECK(high - low >= 1700);  // and the steps are as many as that allows
  }
}

}  // namespace

int main() {
  for (int channels : {1, 2, 7, 50}) test_terms_stay_in_16_bits(channels);
  for (const auto& [channels, k] : {std::pair{4, 1}, {5, 4}, {16, 3}, {7, 2}}) {
    for (const auto& [height, width] : {std::pair{1, 1}, {7, 13}, {13, 29}, {5, 44}, {3, 47}, {4, 138}}) {
      test_layer(channels, k, height, width, 0, false, Fill::random);
      for (Fill how : {Fill::random, Fill::ends, Fill::worst}) test_layer(channels, k, height, width, 0, true, how);
    }
    test_layer(channels, k, 6, 50, 7, false, Fill::random);
    test_layer(channels, k, 6, 50, 7, true, Fill::ends);
  }
  test_layer(64, 3, 5, 20, 0, true, Fill::worst);
}
