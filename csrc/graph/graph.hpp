// A network as the compiler left it: typed nodes in the order in which they can run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/aligned.hpp"
#include "core/status.hpp"

namespace fastsr {

enum class StepOp { relu, leaky_relu, prelu, sigmoid, tanh, clip, affine, add, mul };

// Changes each pixel of a value on its own.
//   leaky_relu: a = slope; clip: a = low, b = high; prelu: tensor0 = slope (C)
//   affine: y = x * tensor0[c] + tensor1[c]; add, mul: with the node's inputs[input]
struct Step {
  StepOp op = StepOp::relu;
  float a = 0;
  float b = 0;
  int tensor0 = -1;
  int tensor1 = -1;
  int input = 0;
};

// relayout is never in a file: the engine inserts it, see runtime/lower.hpp.
enum class NodeOp { conv, pointwise, concat, slice, pixel_shuffle, resize, relayout };
enum class ResizeMode { nearest, bilinear, bicubic };

// How a convolution is computed, and how rows lie in memory; the engine chooses (runtime/lower.hpp).
// _int: in integers; winograd9: cpu/winograd9.hpp. packed: tiles of cells, see cpu/winograd.hpp; cells: rows
// of cells; bf16: rows of bf16 cells.
enum class Algorithm { direct, direct_bf16, winograd, winograd_int, winograd9, winograd9_int };
enum class Layout { plain, tiled, packed, cells, bf16 };

constexpr bool in_blocks(Layout layout) { return layout == Layout::tiled || layout == Layout::packed; }
// Of 16-bit integers.
constexpr bool in_cells(Layout layout) { return layout == Layout::packed || layout == Layout::cells; }

// Values are numbered: 0 is the image, i + 1 the output of node i.
struct Node {
  NodeOp op = NodeOp::conv;
  std::string name;
  std::vector<int> inputs;
  std::vector<Step> steps;  // conv, pointwise
  int weight = -1;          // conv: tensor (K, C / groups, kh, kw)
  int bias = -1;            // conv: tensor (K), or -1
  int groups = 1;
  int kernel_h = 1;
  int kernel_w = 1;
  int begin = 0;  // slice
  int end = 0;
  int factor = 1;  // pixel_shuffle, resize
  ResizeMode mode = ResizeMode::nearest;
  float cubic_a = -0.5f;

  int ranges = -1;     // tensor (2, channels / range_span): the least and the largest value, or -1: not known
  int range_span = 1;  // so many channels side by side have one range

  int input_channels = 0;  // of inputs[0]
  int channels = 0;        // of the output
  int scale = 1;           // of the output, in pixels per pixel of the image

  Algorithm algorithm = Algorithm::direct;
  Layout layout = Layout::plain;  // of the output
  int row_anchor = 0;             // winograd: tiles begin at the rows y with y mod 4 == row_anchor

  // Whether the output is made of Winograd tiles of 4x4.
  bool in_tiles() const { return algorithm == Algorithm::winograd || algorithm == Algorithm::winograd_int; }
  bool in_parts() const { return algorithm == Algorithm::winograd9 || algorithm == Algorithm::winograd9_int; }

  // Input pixels that the node reads beyond its own position, per side.
  int halo_rows() const;
  int halo_columns() const;
  // Output pixels per input pixel.
  int own_scale() const { return op == NodeOp::pixel_shuffle || op == NodeOp::resize ? factor : 1; }
};

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::size_t offset = 0;  // in floats, into ModelFile::data
};

struct Graph {
  int scale = 1;
  int channels = 0;
  int out_channels = 0;
  int output = 0;  // value
  std::vector<Node> nodes;

  int value_channels(int value) const {
    return value == 0 ? channels : nodes[static_cast<std::size_t>(value - 1)].channels;
  }
  Layout value_layout(int value) const {
    return value == 0 ? Layout::plain : nodes[static_cast<std::size_t>(value - 1)].layout;
  }
  // 32-bit words that hold a pixel.
  int value_words(int value) const {
    const int all = value_channels(value);
    return in_cells(value_layout(value)) || value_layout(value) == Layout::bf16 ? (all + 1) / 2 : all;
  }
  int value_ranges(int value) const { return value == 0 ? -1 : nodes[static_cast<std::size_t>(value - 1)].ranges; }
  int value_scale(int value) const { return value == 0 ? 1 : nodes[static_cast<std::size_t>(value - 1)].scale; }
};

struct ModelFile {
  std::string name;
  std::string card;  // JSON
  std::string sha256;
  std::vector<Graph> graphs;
  std::vector<Tensor> tensors;
  AlignedFloats data;

  const float* tensor(int index) const { return data.data() + tensors[static_cast<std::size_t>(index)].offset; }
};

}  // namespace fastsr
