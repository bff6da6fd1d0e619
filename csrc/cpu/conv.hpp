// Direct convolution, and the steps that follow one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "graph/graph.hpp"

namespace fastsr {

constexpr int kRowPad = 16;
constexpr int kMaxKernelRows = 31;
constexpr int kMaxSteps = 64;

// One step, bound to the rows of a call.
struct BoundStep {
  StepOp op = StepOp::relu;
  float a = 0;
  float b = 0;
  const float* tensor0 = nullptr;
  const float* tensor1 = nullptr;
  const float* other = nullptr;  // column 0, channel 0 of the other operand's row
  std::ptrdiff_t other_pitch = 0;
  const float* other_scale = nullptr;  // packed: of each channel
  bool other_bf16 = false;             // the operand's row is of bf16 cells
};

// A block of output channels that a kernel computes at once. Weights: [kh][c_per_group][kw][count].
struct ConvBlock {
  int k0 = 0;     // first output channel
  int count = 0;  // output channels
  int c0 = 0;     // first input channel of its group
  std::size_t weights = 0;
};

struct PackedConv {
  int kernel_h = 1;
  int kernel_w = 1;
  int c_per_group = 0;
  int channels = 0;  // K
  std::vector<ConvBlock> blocks;
  AlignedFloats weights;
  AlignedFloats bias;  // K, zeros where the node has none
};

// y[k][x] = steps(bias[k] + sum over (ky, c, kx) of w[k][c][ky][kx] * rows[ky][c][x + kx - kw / 2]), in that order,
// for x0 <= x < x1; rows[ky] == nullptr lies outside the image.
struct ConvRow {
  const PackedConv* conv = nullptr;
  const float* rows[kMaxKernelRows] = {};
  std::ptrdiff_t x_pitch = 0;
  float* y = nullptr;
  std::ptrdiff_t y_pitch = 0;
  std::int64_t x0 = 0;
  std::int64_t x1 = 0;
  std::int64_t width = 0;  // of the whole row: the segment that ends here clears the pad
  const BoundStep* steps = nullptr;
  int step_count = 0;
};

}  // namespace fastsr
