#include "runtime/lower.hpp"

#include <algorithm>

#include "cpu/winograd.hpp"

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

// How many Winograd layers lie before each value on its longest way from the image.
std::vector<int> depths_of(const Graph& graph) {
  std::vector<int> depth(graph.nodes.size() + 1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (int input : node.inputs) depth[i + 1] = std::max(depth[i + 1], depth[at(input)]);
    if (node.algorithm == Algorithm::winograd) ++depth[i + 1];
  }
  return depth;
}

// Tiled are the values that Winograd layers make, and that only Winograd layers read. A layer's operands have the
// layout of its output.
void choose_layouts(Graph& graph) {
  std::vector<bool> tiled(graph.nodes.size() + 1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    tiled[i + 1] = graph.nodes[i].algorithm == Algorithm::winograd && static_cast<int>(i + 1) != graph.output;
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      const bool reads_tiles = node.algorithm == Algorithm::winograd;
      for (std::size_t n = 0; n < node.inputs.size(); ++n) {
        const bool fits = reads_tiles && (n == 0 || tiled[i + 1]);
        if (fits || !tiled[at(node.inputs[n])]) continue;
        tiled[at(node.inputs[n])] = false;
        changed = true;
      }
    }
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    graph.nodes[i].layout = tiled[i + 1] ? Layout::tiled : Layout::plain;
  }
}

// Give operands of tiled outputs that are plain a tiled copy, which Winograd layers then read in every place.
Graph with_relayouts(const Graph& graph) {
  std::vector<bool> copied(graph.nodes.size() + 1);
  for (const Node& node : graph.nodes) {
    if (node.layout != Layout::tiled) continue;
    for (std::size_t n = 1; n < node.inputs.size(); ++n) {
      if (graph.value_layout(node.inputs[n]) == Layout::plain) copied[at(node.inputs[n])] = true;
    }
  }
  Graph out = graph;
  out.nodes.clear();
  std::vector<int> value(graph.nodes.size() + 1), copy(graph.nodes.size() + 1);
  auto add_copy = [&](int of) {
    Node node;
    node.op = NodeOp::relayout;
    node.name = "tiles of " + (of == 0 ? std::string("the image") : graph.nodes[at(of - 1)].name);
    node.inputs = {value[at(of)]};
    node.input_channels = node.channels = graph.value_channels(of);
    node.scale = graph.value_scale(of);
    node.layout = Layout::tiled;
    out.nodes.push_back(node);
    copy[at(of)] = static_cast<int>(out.nodes.size());
  };
  if (copied[0]) add_copy(0);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    for (std::size_t n = 0; n < node.inputs.size(); ++n) {
      const std::size_t input = at(node.inputs[n]);
      const bool wants_tiles =
          node.algorithm == Algorithm::winograd && (n == 0 || node.layout == Layout::tiled) && copied[input];
      node.inputs[n] = wants_tiles ? copy[input] : value[input];
    }
    out.nodes.push_back(std::move(node));
    value[i + 1] = static_cast<int>(out.nodes.size());
    if (copied[i + 1]) add_copy(static_cast<int>(i + 1));
  }
  out.output = value[at(graph.output)];
  return out;
}

}  // namespace

Graph lower(const Graph& graph, bool winograd) {
  Graph out = graph;
  if (!winograd) return out;
  for (Node& node : out.nodes) {
    if (suits_winograd(node)) node.algorithm = Algorithm::winograd;
  }
  // A layer's tiles begin one row above those of the layer before: it then waits for one row, and not for four.
  const std::vector<int> depths = depths_of(out);
  for (std::size_t i = 0; i < out.nodes.size(); ++i) {
    out.nodes[i].row_anchor = (kTileRows - depths[i + 1] % kTileRows) % kTileRows;
  }
  choose_layouts(out);
  return with_relayouts(out);
}

}  // namespace fastsr
