// From the graph of a file to the graph that the engine runs: which convolutions are computed by Winograd's algorithm
// and in which arithmetic, and which values are kept in tiles for it. Depends on the graph alone, never on an image:
// the same bits for all.
#pragma once

#include "graph/graph.hpp"

namespace fastsr {

struct Lowering {
  bool winograd = true;   // may that algorithm be taken; without it every convolution is direct, and in floats
  bool integers = false;  // may convolutions be in integers: those whose input's ranges the file knows
  bool bf16 = false;      // are convolutions in bf16: in one group, large enough, and behind another one
};

inline bool operator==(const Lowering& a, const Lowering& b) {
  return a.winograd == b.winograd && a.integers == b.integers && a.bf16 == b.bf16;
}

Graph lower(const Graph& graph, const Lowering& how);

// Whether a lowered graph's value, in cells, is read by 9x9 layers in parts (if need be behind a pixel shuffle), and
// not by layers in tiles.
bool feeds_parts(const Graph& graph, int value);

}  // namespace fastsr
