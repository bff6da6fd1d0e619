// Winograd's algorithm in integers, at every ISA level: sums against a plain loop over 64-bit integers, for pixels that
// drive the terms as far as they go, and results against the convolution in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cpu/isa.hpp"
#include "tests/check.hpp"

using namespace fastsr;

namespace {

std::mt19937 random_source(1);

float random_float(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_source); }

std::size_t at(std::ptrdiff_t index) { return static_cast<std::size_t>(index); }

// The input's transform, straight from its matrix.
constexpr int kInput[kTileInputs][kTileInputs] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                                  {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};

// 6 rows of a group, of integers q[row][channel][column + 1], columns -1 to 64.
struct Pixels {
  Pixels(int channels) : channels(channels), q(at(kTileInputs * channels * kWidth)) {}
  std::int64_t& of(int row, int c, int x) { return q[at((row * channels + c) * kWidth + x + 1)]; }
  static constexpr int kWidth = kBlockColumns + 2;
  int channels;
  std::vector<std::int64_t> q;
};

// What the engine keeps in memory: a block of cells for each row, and the columns beside it.
struct Block {
  Block(Pixels& p, int row)
      : words(at(cells_of(p.channels) * kBlockColumns)), left(at(cells_of(p.channels))), right(left) {
    for (int c = 0; c < cells_of(p.channels); ++c) {
      for (int x = -1; x <= kBlockColumns; ++x) {
        const auto half = [&](int channel) {
          return channel < p.channels ? static_cast<std::uint32_t>(p.of(row, channel, x)) & 0xffffu : 0u;
        };
        const auto cell = static_cast<Cell>(half(2 * c) | half(2 * c + 1) << 16);
        if (x < 0) {
          left[at(c)] = cell;
        } else if (x == kBlockColumns) {
          right[at(c)] = cell;
        } else {
          words[at(c * kBlockColumns + x % 4 * kTilesInGroup + x / 4)] = cell;
        }
      }
    }
  }
  std::vector<std::int32_t> words, left, right;
};

enum class Fill { random, ends, worst };

// worst: a term of every second tile is as large, or as small, as it can be, in all channels at once (tiles overlap).
void fill(Pixels& p, const Quantizer& q, Fill how) {
  const int i = static_cast<int>(random_source() % kTileInputs), j = static_cast<int>(random_source() % kTileInputs);
  const int sign = random_source() % 2 ? 1 : -1;
  for (int row = 0; row < kTileInputs; ++row) {
    for (int c = 0; c < p.channels; ++c) {
      const auto low = static_cast<int>(q.low.data()[c]), high = static_cast<int>(q.high.data()[c]);
      for (int x = -1; x <= kBlockColumns; ++x) {
        const int column = (x + 1) % 8;  // of an even tile, which has 6
        const int factor = column < kTileInputs ? kInput[i][row] * kInput[j][column] * sign : 0;
        switch (how) {
          case Fill::random: p.of(row, c, x) = std::uniform_int_distribution<int>(low, high)(random_source); break;
          case Fill::ends: p.of(row, c, x) = random_source() % 2 ? low : high; break;
          case Fill::worst: p.of(row, c, x) = factor > 0 ? high : low; break;
        }
      }
    }
  }
}

struct Layer {
  Layer(int channels, int k, float widest) : weight(at(k * channels * 9)), bias(at(k)), ranges(at(2 * channels)) {
    node.input_channels = channels;
    node.channels = k;
    node.kernel_h = node.kernel_w = 3;
    for (float& w : weight) w = random_float(-1, 1);
    for (float& b : bias) b = random_float(-1, 1);
    for (int c = 0; c < channels; ++c) {
      ranges[at(c)] = random_float(-widest, 0.1f * widest);
      ranges[at(channels + c)] = std::max(ranges[at(c)], random_float(-0.1f * widest, widest));
    }
    ranges[0] = ranges[at(channels)] = 0;  // a channel that is always zero
    CHECK(make_quantizer(ranges.data(), channels, 1, kTileTransform, quantizer));
  }
  Node node;
  std::vector<float> weight, bias, ranges;
  Quantizer quantizer;
};

void test_terms_stay_in_16_bits(int channels) {
  Layer layer(channels, 8, 3.0f);
  for (int c = 0; c < channels; ++c) {
    const double low = double{layer.quantizer.low.data()[c]}, high = double{layer.quantizer.high.data()[c]};
    CHECK(low <= 0 && high >= 0);
    CHECK(low == std::floor(low) && high == std::floor(high));
    double most = 0;
    for (int i = 0; i < kTileInputs; ++i) {
      for (int j = 0; j < kTileInputs; ++j) {
        double up = 0;  // from the matrix, not from kTileReach
        for (int a = 0; a < kTileInputs; ++a) {
          for (int b = 0; b < kTileInputs; ++b) {
            const double factor = kInput[i][a] * kInput[j][b];
            up += std::max(factor * low, factor * high);
          }
        }
        CHECK(up == kTileTransform.largest_term(i * kTileInputs + j, low, high));
        most = std::max(most, up);
      }
    }
    CHECK(most <= 32767);
    if (c > 0 && high - low > 0) CHECK(high - low >= 470);  // and the steps are as many as that allows
  }
}

void test_layer(const Kernels& kernels, int channels, int k, int tiles_end, Fill how) {
  Layer layer(channels, k, 2.0f);
  PackedWinograd packed;
  CHECK(pack_winograd_int(layer.node, layer.weight.data(), layer.bias.data(), layer.quantizer, kernels.max_tile_block,
                          packed));
  Pixels pixels(channels);
  fill(pixels, layer.quantizer, how);
  std::vector<Block> rows;
  for (int row = 0; row < kTileInputs; ++row) rows.emplace_back(pixels, row);

  const std::ptrdiff_t pitch = kBlockColumns + 2 * kRowPad;
  std::vector<float> y(at(kTileRows * k * pitch));
  AlignedFloats scratch;
  CHECK(scratch.allocate(winograd_scratch(packed.inputs, k).size));
  WinogradPiece piece;
  piece.conv = &packed;
  piece.x_layout = Layout::packed;
  piece.y_pitch = pitch;
  piece.scratch = scratch.data();
  TileGroup group;
  for (int row = 0; row < kTileInputs; ++row) {
    group.x[row] = reinterpret_cast<const float*>(rows[at(row)].words.data());
    group.x_left[row] = reinterpret_cast<const float*>(rows[at(row)].left.data());
    group.x_right[row] = reinterpret_cast<const float*>(rows[at(row)].right.data());
  }
  for (int row = 0; row < kTileRows; ++row) group.y[row] = y.data() + row * k * pitch + kRowPad;
  group.y_end = group.image_end = tiles_end;
  std::vector<TileGroup> groups(3, group);  // three times the same
  piece.context = &groups;
  piece.next = [](void* context, TileGroup& next) {
    auto& left = *static_cast<std::vector<TileGroup>*>(context);
    if (left.empty()) return false;
    next = left.back();
    left.pop_back();
    return true;
  };
  const auto before = kernels.conv_rows->load();
  kernels.winograd_int(piece);
  CHECK(kernels.conv_rows->load() == before + 1);

  // Each result depends on a whole tile of pixels in its last bits, so its error is judged by the largest there can be.
  double worst = 0;
  for (int o = 0; o < k; ++o) {
    double size = 0;
    for (int n = 0; n < channels * 9; ++n) {
      const std::size_t c = at(n / 9);
      const float reach = std::max(-layer.quantizer.low.data()[c], layer.quantizer.high.data()[c]);
      size +=
          std::fabs(double{layer.weight[at(o * channels * 9 + n)]} * double{layer.quantizer.scale.data()[c] * reach});
    }
    for (int row = 0; row < kTileRows; ++row) {
      for (int x = 0; x < tiles_end; ++x) {
        double exact = double{layer.bias[at(o)]};
        for (int c = 0; c < channels; ++c) {
          for (int a = 0; a < 3; ++a) {
            for (int b = 0; b < 3; ++b) {
              exact += double{layer.weight[at((o * channels + c) * 9 + a * 3 + b)]} *
                       double{layer.quantizer.scale.data()[c]} * static_cast<double>(pixels.of(row + a, c, x + b - 1));
            }
          }
        }
        const double got = double{y[at((row * k + o) * pitch + kRowPad + x)]};
        worst = std::max(worst, std::fabs(got - exact) / (size + 1e-6));
      }
    }
  }
  CHECK(worst < 0.003);  // weights are rounded; a sum that wraps around is wrong by far more
}

// No sum leaves 32 bits, for the weights as they were packed and the worst of pixels in every channel at once.
void test_sums_stay_in_32_bits(int channels, int k) {
  Layer layer(channels, k, 2.0f);
  PackedWinograd packed;
  CHECK(pack_winograd_int(layer.node, layer.weight.data(), layer.bias.data(), layer.quantizer, 8, packed));
  const auto* cells = reinterpret_cast<const Cell*>(packed.weights.data());
  const Cell* u = cells;
  for (const WinogradBlock& block : packed.blocks) {
    const int width = 2 * cells_of(block.count);
    for (int term = 0; term < kTileTerms; ++term) {
      std::vector<double> up(at(width)), down(up);
      for (int input = 0; input < packed.inputs; ++input) {
        for (int m = 0; m < width; ++m, ++u) {
          for (int half = 0; half < 2; ++half) {
            const int c = 2 * input + half;
            const auto w = static_cast<std::int16_t>(static_cast<std::uint32_t>(*u) >> (16 * half));
            if (c >= channels || m >= block.count) {
              CHECK(w == 0);
              continue;
            }
            const double low = double{layer.quantizer.low.data()[c]}, high = double{layer.quantizer.high.data()[c]};
            const double largest = kTileTransform.largest_term(term, low, high);
            const double least = -kTileTransform.largest_term(term, -high, -low);
            up[at(m)] += std::max(w * largest, w * least);
            down[at(m)] += std::min(w * largest, w * least);
          }
        }
      }
      for (int m = 0; m < width; ++m) CHECK(up[at(m)] <= 2147483647.0 && down[at(m)] >= -2147483648.0);
    }
  }
}

}  // namespace

int main() {
  for (int channels : {1, 2, 7, 50}) test_terms_stay_in_16_bits(channels);
  for (int channels : {2, 3, 50, 64}) test_sums_stay_in_32_bits(channels, 13);
  test_sums_stay_in_32_bits(11, 130);
  int levels = 0;
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    ++levels;
    for (const auto& [channels, k] : {std::pair{2, 16}, {3, 11}, {13, 12}, {50, 50}, {16, 65}, {5, 127}}) {
      for (Fill how : {Fill::random, Fill::ends, Fill::worst}) {
        test_layer(*level.kernels, channels, k, kBlockColumns, how);
        test_layer(*level.kernels, channels, k, 37, how);
      }
    }
    for (int round = 0; round < 30; ++round) test_layer(*level.kernels, 4, 3, kBlockColumns, Fill::worst);
  }
  CHECK(levels >= 1);
}
