// Convolution of bf16 values, at every ISA level, and as AMX does it on tiles that are emulated here: against plain
// loops in double over the rounded inputs and weights.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/isa.hpp"
#include "cpu/kernels.hpp"
#include "cpu/simd_scalar.hpp"
#include "tests/check.hpp"

// A level of its own, whose kernels can be reached here.
namespace {
constexpr int kRegisters = 16;
constexpr int kMaxBlock = 4;
constexpr int kMaxVectors = 8;
constexpr int kMaxTileBlock = 4;
constexpr int kMaxPartBlock = 4;
constexpr bool kInterleave = false;
constexpr int kTileVectors = 1;
}  // namespace
namespace fastsr {
extern const Kernels kEmulated;
}
#define FASTSR_LEVEL kEmulated
#define FASTSR_LEVEL_NAME "emulated"
#include "cpu/kernels.inl"

using namespace fastsr;

namespace {

std::mt19937 random_source(1);

float random_float() { return std::uniform_real_distribution<float>(-1, 1)(random_source); }

std::size_t at(std::ptrdiff_t index) { return static_cast<std::size_t>(index); }

float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The nearest bf16 number, the even one of two: by trying.
float nearest_bf16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const float below = float_of(bits & 0xffff0000u), above = float_of((bits & 0xffff0000u) + 0x10000u);
  const float to_below = std::fabs(x - below), to_above = std::fabs(above - x);
  if (to_below != to_above) return to_below < to_above ? below : above;
  return (bits >> 16 & 1u) == 0 ? below : above;
}

// What the manual says of AMX-BF16's instructions, one by one.
struct EmulatedTiles {
  static inline std::uint32_t words[8][16][16];
  static inline int rows[8], columns[8];
  static inline bool configured = false;

  static void configure(int channels, int cells) {
    CHECK(channels >= 1 && channels <= 16 && cells >= 1 && cells <= 16);
    for (int tile = 0; tile < 8; ++tile) {
      rows[tile] = tile < 6 ? channels : cells;
      columns[tile] = tile == 4 || tile == 5 ? cells : 16;
    }
    std::memset(words, 0xff, sizeof words);  // NaN
    configured = true;
  }
  static void release() { configured = false; }
  template <int tile>
  static void zero() {
    std::memset(words[tile], 0, sizeof words[tile]);
  }
  template <int tile, class Word>
  static void load(const Word* from, std::ptrdiff_t pitch) {
    CHECK(configured);
    for (int row = 0; row < rows[tile]; ++row) {
      std::memcpy(words[tile][row], from + row * pitch, static_cast<std::size_t>(columns[tile]) * 4);
    }
  }
  template <int tile>
  static void store(float* to, std::ptrdiff_t pitch) {
    for (int row = 0; row < rows[tile]; ++row) std::memcpy(to + row * pitch, words[tile][row], 64);
  }
  template <int sum, int a, int b>
  static void multiply() {
    CHECK(columns[a] == rows[b] && rows[sum] == rows[a] && columns[sum] == columns[b]);
    for (int m = 0; m < rows[sum]; ++m) {
      for (int n = 0; n < columns[sum]; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < columns[a]; ++k) {
          const std::uint32_t x = words[a][m][k], y = words[b][k][n];
          even = std::fmaf(float_of(x << 16), float_of(y << 16), even);
          odd = std::fmaf(float_of(x & 0xffff0000u), float_of(y & 0xffff0000u), odd);
        }
        const float all = float_of(words[sum][m][n]) + (even + odd);
        std::memcpy(&words[sum][m][n], &all, sizeof all);
      }
    }
  }
};

struct Case {
  int channels, k, kernel, width;
  bool y_bf16;
};

struct Inputs {
  explicit Inputs(const Case& c)
      : pitch(c.width + 2 * kRowPad), weight(at(c.k * c.channels * c.kernel * c.kernel)), bias(at(c.k)) {
    for (float& w : weight) w = random_float();
    for (float& b : bias) b = random_float();
    missing = c.kernel > 1 ? static_cast<int>(random_source() % static_cast<unsigned>(c.kernel)) : -1;
    for (int ky = 0; ky < c.kernel; ++ky) {
      std::vector<float> floats(at(c.channels * pitch));
      for (int ch = 0; ch < c.channels; ++ch) {
        for (int x = 0; x < c.width; ++x) floats[at(ch * pitch + kRowPad + x)] = random_float();
      }
      rows.push_back(std::move(floats));
    }
  }
  std::ptrdiff_t pitch;
  std::vector<float> weight, bias;
  std::vector<std::vector<float>> rows;
  int missing;
};

// y[k][width], through copy_bf16 and conv_bf16.
std::vector<float> run(const Case& c, const Inputs& in, const Kernels& kernels, bool in_tiles,
                       void (*convolve)(const Bf16Row&)) {
  Node node;
  node.kernel_h = node.kernel_w = c.kernel;
  node.input_channels = c.channels;
  node.channels = c.k;
  PackedBf16 packed;
  CHECK(pack_bf16(node, in.weight.data(), in.bias.data(), kernels.max_block, in_tiles, packed));
  const int cells = cells_of(c.channels);
  std::vector<std::vector<float>> rows;
  for (const std::vector<float>& floats : in.rows) {
    std::vector<float> row(at(cells * in.pitch + 2 * kRowPad));  // kOverread
    Bf16Copy copy;
    copy.x = floats.data() + kRowPad;
    copy.x_pitch = in.pitch;
    copy.y = row.data() + kRowPad;
    copy.y_pitch = in.pitch;
    copy.channels = c.channels;
    copy.width = c.width;
    kernels.copy_bf16(copy);
    rows.push_back(std::move(row));
  }
  const int words = c.y_bf16 ? cells_of(c.k) : c.k;
  std::vector<float> y(at(words * in.pitch), 99.0f);
  AlignedFloats scratch;
  CHECK(scratch.allocate(at(c.k * kBf16Stripe)));
  Bf16Row a;
  a.conv = &packed;
  for (int ky = 0; ky < c.kernel; ++ky) a.rows[ky] = ky == in.missing ? nullptr : rows[at(ky)].data() + kRowPad;
  a.x_pitch = in.pitch;
  a.y = y.data() + kRowPad;
  a.y_pitch = in.pitch;
  a.y_bf16 = c.y_bf16;
  a.x1 = a.width = c.width;
  a.scratch = scratch.data();
  convolve(a);
  std::vector<float> result;
  for (int k = 0; k < c.k; ++k) {
    const float* row = a.y + (c.y_bf16 ? k / 2 : k) * in.pitch;
    for (int i = 0; i < kRowPad; ++i) CHECK(row[c.width + i] == 0.0f);
    for (int x = 0; x < c.width; ++x) {
      std::uint32_t bits;
      std::memcpy(&bits, row + x, sizeof bits);
      result.push_back(!c.y_bf16 ? row[x] : float_of(k % 2 == 0 ? bits << 16 : bits & 0xffff0000u));
    }
  }
  return result;
}

void test(const Case& c) {
  const Inputs in(c);
  std::vector<double> wanted, size;
  for (int k = 0; k < c.k; ++k) {
    for (int x = 0; x < c.width; ++x) {
      double sum = double{in.bias[at(k)]}, all = std::fabs(sum);
      for (int ky = 0; ky < c.kernel; ++ky) {
        for (int ch = 0; ky != in.missing && ch < c.channels; ++ch) {
          for (int kx = 0; kx < c.kernel; ++kx) {
            const int from = x + kx - c.kernel / 2;
            if (from < 0 || from >= c.width) continue;
            const float w = in.weight[at(((k * c.channels + ch) * c.kernel + ky) * c.kernel + kx)];
            const double product =
                double{nearest_bf16(w)} * double{nearest_bf16(in.rows[at(ky)][at(ch * in.pitch + kRowPad + from)])};
            sum += product;
            all += std::fabs(product);
          }
        }
      }
      wanted.push_back(sum);
      size.push_back(all);
    }
  }
  const auto check = [&](const std::vector<float>& y) {
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double error = std::fabs(double{y[i]} - wanted[i]);
      CHECK(error <= 3e-6 * size[i] + (c.y_bf16 ? std::fabs(wanted[i]) / 256 : 0));  // half a step of bf16
    }
  };
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    const auto before = level.kernels->conv_rows->load();
    check(run(c, in, *level.kernels, level.kernels->bf16_tiles, level.kernels->conv_bf16));
    CHECK(level.kernels->conv_rows->load() == before + 1);
  }
  check(run(c, in, kEmulated, true, conv_bf16<InTiles<EmulatedTiles>>));
  CHECK(!EmulatedTiles::configured);
}

}  // namespace

int main() {
  for (int width : {1, 7, 13, 16, 17, 33, 97, 200}) {
    for (bool y_bf16 : {false, true}) {
      test({1, 1, 1, width, y_bf16});
      test({2, 5, 3, width, y_bf16});
      test({7, 16, 3, width, y_bf16});
      test({50, 50, 3, width, y_bf16});
      test({33, 17, 5, width, y_bf16});
      test({65, 33, 1, width, y_bf16});
      test({3, 12, 9, width, y_bf16});
    }
  }
  test({64, 64, 3, 41, true});
  test({4, 3, 31, 40, false});
}
