// From the graph of a file to the graph that the engine runs: which convolutions are computed by Winograd's algorithm,
// and which values are kept in tiles for it. Depends on the graph alone, never on an image: the same bits for all.
#pragma once

#include "graph/graph.hpp"

namespace fastsr {

// winograd: whether that algorithm may be taken; without it every convolution is direct.
Graph lower(const Graph& graph, bool winograd);

}  // namespace fastsr
