#include "runtime/lower.hpp"

#include <algorithm>

#include "cpu/conv.hpp"
#include "cpu/winograd.hpp"
#include "cpu/winograd9.hpp"

namespace fastsr {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

int operands_of(const Node& node) {
  return static_cast<int>(std::count_if(node.steps.begin(), node.steps.end(), [](const Step& step) {
    return step.op == StepOp::add || step.op == StepOp::mul;
  }));
}

bool suits_winograd(const Node& node) {
  return node.op == NodeOp::conv && node.kernel_h == 3 && node.kernel_w == 3 && node.groups == 1 &&
         node.input_channels * node.channels >= kLeastProduct && operands_of(node) <= kMaxOperands;
}

bool suits_winograd9(const Node& node) {
  return node.op == NodeOp::conv && node.kernel_h == 9 && node.kernel_w == 9 && node.groups == 1 &&
         node.channels <= kMaxPartOutputs && node.input_channels >= kLeastPartInputs;
}

bool suits_bf16(const Node& node) {
  return node.op == NodeOp::conv && node.groups == 1 && node.kernel_w / 2 <= kRowPad && !suits_winograd9(node) &&
         node.input_channels * node.channels >= kLeastProduct;
}

// Which values are the image, or what is left of it before the first layer worth the name: it keeps its precision.
std::vector<bool> images_of(const Graph& graph) {
  std::vector<bool> image(graph.nodes.size() + 1);
  image[0] = true;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const bool layer = node.op == NodeOp::conv && node.input_channels * node.channels >= kLeastProduct;
    image[i + 1] = !layer && std::all_of(node.inputs.begin(), node.inputs.end(), [&](int v) { return image[at(v)]; });
  }
  return image;
}

// How many Winograd layers lie before each value on its longest way from the image.
std::vector<int> depths_of(const Graph& graph) {
  std::vector<int> depth(graph.nodes.size() + 1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (int input : node.inputs) depth[i + 1] = std::max(depth[i + 1], depth[at(input)]);
    if (node.in_tiles()) ++depth[i + 1];
  }
  return depth;
}

// Whether a pixel shuffle happens while the result is stored (make_pipeline), which reads plain rows.
bool is_stored(const Graph& graph, const Node& node) { return &node == &graph.nodes[at(graph.output - 1)]; }

// In which layout input n of a node is read where it has it: operands in that of the output.
Layout wanted_layout(const Graph& graph, const Node& node, std::size_t n) {
  if (n > 0 && node.algorithm == Algorithm::direct_bf16) {  // reads operands in bf16 or in floats
    return graph.value_layout(node.inputs[n]) == Layout::bf16 ? Layout::bf16 : Layout::plain;
  }
  if (n > 0) return node.layout;
  if (node.op == NodeOp::pixel_shuffle && !is_stored(graph, node)) {
    return node.layout == Layout::cells ? Layout::packed : Layout::tiled;
  }
  switch (node.algorithm) {
    case Algorithm::direct:
    case Algorithm::winograd9: return Layout::plain;
    case Algorithm::direct_bf16: return Layout::bf16;
    case Algorithm::winograd: return Layout::tiled;
    case Algorithm::winograd_int: return Layout::packed;
    case Algorithm::winograd9_int: return Layout::cells;
  }
  return Layout::plain;
}

// A 9x9 layer reads cells behind a pixel shuffle by two whose ranges are known, where nobody else reads what lies
// between it and the 3x3 layer before: the shuffle moves halves of cells, so the channels that it makes one share a
// range.
void choose_cells_before_parts(Graph& graph) {
  std::vector<int> readers(graph.nodes.size() + 1);
  for (const Node& node : graph.nodes) {
    for (int input : node.inputs) ++readers[at(input)];
  }
  ++readers[at(graph.output)];
  for (Node& node : graph.nodes) {
    if (node.algorithm != Algorithm::winograd9 || node.inputs[0] == 0) continue;
    Node& shuffle = graph.nodes[at(node.inputs[0] - 1)];
    if (shuffle.op != NodeOp::pixel_shuffle || shuffle.factor != 2 || shuffle.ranges < 0 || shuffle.inputs[0] == 0 ||
        readers[at(node.inputs[0])] != 1 || readers[at(shuffle.inputs[0])] != 1) {
      continue;
    }
    Node& before = graph.nodes[at(shuffle.inputs[0] - 1)];
    if (!before.in_tiles() || !std::all_of(before.inputs.begin() + 1, before.inputs.end(),
                                           [&](int operand) { return graph.value_ranges(operand) >= 0; })) {
      continue;
    }
    node.algorithm = Algorithm::winograd9_int;
    shuffle.layout = Layout::cells;
    before.ranges = shuffle.ranges;
    before.range_span = shuffle.factor * shuffle.factor;
  }
}

// In cells are the values whose ranges are known, that Winograd layers make, and that only layers in integers read; so
// are all operands of a layer whose output is. In tiles are those that Winograd layers make, and that only Winograd
// layers in floats and pixel shuffles read; in bf16 those that only such layers make and read.
void choose_layouts(Graph& graph) {
  const auto ranges_known = [&](const Node& node) {
    return node.ranges >= 0 && std::all_of(node.inputs.begin() + 1, node.inputs.end(),
                                           [&](int operand) { return graph.value_ranges(operand) >= 0; });
  };
  // What is read by both kinds is plain; a guess by the first reader is mended below.
  std::vector<bool> for_integers(graph.nodes.size() + 1), for_floats(for_integers), for_others(for_integers);
  for_others[at(graph.output)] = true;
  for (const Node& node : graph.nodes) {
    for (int input : node.inputs) {
      if (node.algorithm == Algorithm::winograd_int || node.layout == Layout::cells) for_integers[at(input)] = true;
      if (node.op == NodeOp::pixel_shuffle) for_floats[at(input)] = true;
      if (node.algorithm != Algorithm::direct_bf16) for_others[at(input)] = true;
    }
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    if (node.layout == Layout::cells) continue;
    if (node.algorithm == Algorithm::direct_bf16 && !for_others[i + 1]) {
      node.layout = Layout::bf16;
    } else if (!node.in_tiles() || static_cast<int>(i + 1) == graph.output) {
      node.layout = Layout::plain;
    } else if (for_integers[i + 1] || (node.algorithm == Algorithm::winograd_int && !for_floats[i + 1])) {
      node.layout = ranges_known(node) ? Layout::packed : Layout::plain;
    } else {
      node.layout = Layout::tiled;
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (const Node& node : graph.nodes) {
      for (std::size_t n = 0; n < node.inputs.size(); ++n) {
        if (node.inputs[n] == 0) continue;
        Layout& layout = graph.nodes[at(node.inputs[n] - 1)].layout;
        if (layout == Layout::plain || layout == wanted_layout(graph, node, n)) continue;
        layout = Layout::plain;
        changed = true;
      }
    }
  }
}

// Whether a plain value must be copied for input n of a node: layers in floats, and shuffles, read plain inputs
// themselves.
bool needs_copy(const Graph& graph, const Node& node, std::size_t n) {
  const Layout wanted = wanted_layout(graph, node, n);
  return graph.value_layout(node.inputs[n]) == Layout::plain && wanted != Layout::plain &&
         (n > 0 || wanted == Layout::packed || wanted == Layout::bf16);
}

// Give layers that need a plain value in tiles or cells a copy of it, which all that can read it then do.
Graph with_relayouts(const Graph& graph) {
  std::vector<bool> copied[3];  // tiled, packed, bf16
  for (std::vector<bool>& values : copied) values.resize(graph.nodes.size() + 1);
  const auto kind = [](Layout layout) { return layout == Layout::tiled ? 0 : layout == Layout::packed ? 1 : 2; };
  for (const Node& node : graph.nodes) {
    for (std::size_t n = 0; n < node.inputs.size(); ++n) {
      if (needs_copy(graph, node, n)) copied[kind(wanted_layout(graph, node, n))][at(node.inputs[n])] = true;
    }
  }
  Graph out = graph;
  out.nodes.clear();
  std::vector<int> value(graph.nodes.size() + 1), copy[3] = {value, value, value};
  auto add_copies = [&](int of) {
    for (Layout layout : {Layout::tiled, Layout::packed, Layout::bf16}) {
      if (!copied[kind(layout)][at(of)]) continue;
      Node node;
      node.op = NodeOp::relayout;
      const char* const what[] = {"tiles of ", "cells of ", "bf16 of "};
      node.name = what[kind(layout)] + (of == 0 ? std::string("the image") : graph.nodes[at(of - 1)].name);
      node.inputs = {value[at(of)]};
      node.input_channels = node.channels = graph.value_channels(of);
      node.scale = graph.value_scale(of);
      node.ranges = graph.value_ranges(of);
      node.layout = layout;
      out.nodes.push_back(node);
      copy[kind(layout)][at(of)] = static_cast<int>(out.nodes.size());
    }
  };
  add_copies(0);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    for (std::size_t n = 0; n < node.inputs.size(); ++n) {
      const std::size_t input = at(node.inputs[n]);
      const Layout wanted = wanted_layout(graph, graph.nodes[i], n);
      const bool from_copy =
          graph.value_layout(node.inputs[n]) == Layout::plain && wanted != Layout::plain && copied[kind(wanted)][input];
      node.inputs[n] = from_copy ? copy[kind(wanted)][input] : value[input];
    }
    out.nodes.push_back(std::move(node));
    value[i + 1] = static_cast<int>(out.nodes.size());
    add_copies(static_cast<int>(i + 1));
  }
  out.output = value[at(graph.output)];
  return out;
}

}  // namespace

Graph lower(const Graph& graph, const Lowering& how) {
  Graph out = graph;
  if (!how.winograd && !how.bf16) return out;
  const std::vector<bool> image = images_of(out);
  for (Node& node : out.nodes) {
    if (how.bf16 && suits_bf16(node) && !image[at(node.inputs[0])]) {
      node.algorithm = Algorithm::direct_bf16;
      continue;
    }
    if (!how.winograd) continue;
    if (suits_winograd9(node)) node.algorithm = Algorithm::winograd9;
    if (!suits_winograd(node)) continue;
    const bool integers = how.integers && out.value_ranges(node.inputs[0]) >= 0;
    node.algorithm = integers ? Algorithm::winograd_int : Algorithm::winograd;
  }
  if (how.integers) choose_cells_before_parts(out);
  // A layer's tiles begin one row above those of the layer before: it then waits for one row, and not for four.
  const std::vector<int> depths = depths_of(out);
  for (std::size_t i = 0; i < out.nodes.size(); ++i) {
    if (out.nodes[i].in_tiles()) out.nodes[i].row_anchor = (kTileRows - depths[i + 1] % kTileRows) % kTileRows;
  }
  choose_layouts(out);
  return with_relayouts(out);
}

bool feeds_parts(const Graph& graph, int value) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return node.inputs[0] == value &&
           (node.in_parts() || (node.layout == Layout::cells && node.op == NodeOp::pixel_shuffle));
  });
}

}  // namespace fastsr
