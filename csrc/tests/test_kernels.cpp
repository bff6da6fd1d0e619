// Every kernel of every ISA level against a plain loop in double, and all levels against each other, to the bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/isa.hpp"
#include "tests/check.hpp"

using namespace fastsr;

namespace {

std::mt19937 random_source(1);

float random_float() { return std::uniform_real_distribution<float>(-1, 1)(random_source); }

// Planar rows with room for pads and vectors, filled with random numbers, pads zero.
struct Rows {
  Rows(int channels, int width) : channels(channels), width(width), pitch((width + 15) / 16 * 16 + 2 * kRowPad) {
    data.resize(static_cast<std::size_t>(channels) * static_cast<std::size_t>(pitch));
    for (int c = 0; c < channels; ++c) {
      for (int x = 0; x < width; ++x) at(c, x) = random_float();
    }
  }
  float& at(int c, int x) { return data[static_cast<std::size_t>(c * pitch + kRowPad + x)]; }
  float* row() { return data.data() + kRowPad; }
  int channels, width;
  std::ptrdiff_t pitch;
  std::vector<float> data;
};

void test_conv(int channels, int k, int groups, int kernel, int width) {
  Node node;
  node.groups = groups;
  node.kernel_h = node.kernel_w = kernel;
  node.input_channels = channels;
  node.channels = k;
  const int per_group = channels / groups;
  std::vector<float> weight(static_cast<std::size_t>(k * per_group * kernel * kernel)),
      bias(static_cast<std::size_t>(k));
  for (float& w : weight) w = random_float();
  for (float& b : bias) b = random_float();
  std::vector<Rows> input;
  for (int ky = 0; ky < kernel; ++ky) input.emplace_back(channels, width);
  const int missing = kernel > 1 ? static_cast<int>(random_source() % static_cast<unsigned>(kernel)) : -1;

  std::vector<double> wanted;
  for (int o = 0; o < k; ++o) {
    for (int x = 0; x < width; ++x) {
      double sum = bias[static_cast<std::size_t>(o)];
      for (int ky = 0; ky < kernel; ++ky) {
        if (ky == missing) continue;
        for (int c = 0; c < per_group; ++c) {
          for (int kx = 0; kx < kernel; ++kx) {
            const int at = x + kx - kernel / 2;
            if (at < 0 || at >= width) continue;
            sum += static_cast<double>(
                       weight[static_cast<std::size_t>(((o * per_group + c) * kernel + ky) * kernel + kx)]) *
                   input[static_cast<std::size_t>(ky)].at(o / (k / groups) * per_group + c, at);
          }
        }
      }
      wanted.push_back(sum);
    }
  }

  std::vector<float> first;
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    PackedConv packed;
    CHECK(pack_conv(node, weight.data(), bias.data(), *level.kernels, packed));
    Rows output(k, width);
    std::fill(output.data.begin(), output.data.end(), 99.0f);
    ConvRow a;
    a.conv = &packed;
    for (int ky = 0; ky < kernel; ++ky)
      a.rows[ky] = ky == missing ? nullptr : input[static_cast<std::size_t>(ky)].row();
    a.x_pitch = input[0].pitch;
    a.y = output.row();
    a.y_pitch = output.pitch;
    a.width = width;
    for (a.x0 = 0; a.x0 < width; a.x0 = a.x1) {  // in segments, as the engine does
      a.x1 = std::min<std::int64_t>(a.x0 + 192, width);
      level.kernels->conv(a);
    }
    std::vector<float> got;
    for (int o = 0; o < k; ++o) {
      for (int x = 0; x < width; ++x) got.push_back(output.at(o, x));
      for (int x = 0; x < kRowPad; ++x) CHECK(output.at(o, width + x) == 0.0f);
      CHECK(output.at(o, -1) == 99.0f);
    }
    const double tolerance = 1e-6 * (1 + per_group * kernel * kernel);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::fabs(static_cast<double>(got[i]) - wanted[i]) < tolerance);
    if (first.empty()) first = got;
    CHECK(std::memcmp(first.data(), got.data(), got.size() * sizeof(float)) == 0);
  }
}

void test_steps() {
  const int channels = 3, width = 37;
  Rows input(channels, width), other(channels, width);
  for (int i = 0; i < 12; ++i) input.at(1, i) = static_cast<float>(i - 6) * 20.0f;  // far out for exp
  const float slope[] = {0.25f, -0.5f, 2.0f}, offset[] = {1.0f, 0.5f, -1.0f};
  struct Case {
    BoundStep step;
    double (*wanted)(double x, double other, double slope, double offset);
  };
  const float* o = other.row();
  const Case cases[] = {
      {{StepOp::relu, 0, 0, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return x > 0 ? x : 0; }},
      {{StepOp::leaky_relu, 0.1f, 0, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return x > 0 ? x : 0.1 * x; }},
      {{StepOp::leaky_relu, -1.5f, 0, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return x > 0 ? x : -1.5 * x; }},
      {{StepOp::prelu, 0, 0, slope, nullptr, nullptr, 0},
       [](double x, double, double s, double) { return x > 0 ? x : s * x; }},
      {{StepOp::sigmoid, 0, 0, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return 1 / (1 + std::exp(-x)); }},
      {{StepOp::tanh, 0, 0, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return std::tanh(x); }},
      {{StepOp::clip, -0.25f, 0.5f, nullptr, nullptr, nullptr, 0},
       [](double x, double, double, double) { return std::min(std::max(x, -0.25), 0.5); }},
      {{StepOp::affine, 0, 0, slope, offset, nullptr, 0},
       [](double x, double, double s, double b) { return x * s + b; }},
      {{StepOp::add, 0, 0, nullptr, nullptr, o, other.pitch}, [](double x, double y, double, double) { return x + y; }},
      {{StepOp::mul, 0, 0, nullptr, nullptr, o, other.pitch}, [](double x, double y, double, double) { return x * y; }},
  };
  for (const Case& c : cases) {
    std::vector<float> first;
    for (const IsaLevel& level : isa_levels()) {
      if (!level.usable) continue;
      Rows output(channels, width);
      PointwiseRow a;
      a.x = input.row();
      a.x_pitch = input.pitch;
      a.y = output.row();
      a.y_pitch = output.pitch;
      a.channels = channels;
      a.width = width;
      a.steps = &c.step;
      a.step_count = 1;
      level.kernels->pointwise(a);
      std::vector<float> got;
      for (int ch = 0; ch < channels; ++ch) {
        for (int x = 0; x < width; ++x) {
          const double wanted = c.wanted(static_cast<double>(input.at(ch, x)), static_cast<double>(other.at(ch, x)),
                                         static_cast<double>(slope[ch]), static_cast<double>(offset[ch]));
          got.push_back(output.at(ch, x));
          CHECK(std::fabs(static_cast<double>(got.back()) - wanted) <= 3e-7 * (1 + std::fabs(wanted)));
        }
      }
      if (first.empty()) first = got;
      CHECK(std::memcmp(first.data(), got.data(), got.size() * sizeof(float)) == 0);
    }
  }
}

}  // namespace

int main() {
  const int widths[] = {1, 2, 15, 16, 17, 48, 50, 97, 193, 240};
  for (int width : widths) {
    test_conv(3, 50, 1, 3, width);
    test_conv(7, 1, 1, 1, width);
    test_conv(5, 3, 1, 9, width);
    test_conv(8, 2, 1, 5, width);
    test_conv(6, 12, 3, 3, width);
    test_conv(4, 4, 4, 3, width);
    for (int k = 4; k <= 19; ++k) test_conv(2, k, 1, 3, width);
  }
  test_conv(2, 2, 1, 31, 33);
  test_steps();
}
