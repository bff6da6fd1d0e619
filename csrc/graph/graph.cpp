#include "graph/graph.hpp"

namespace fastsr {
namespace {

int resize_halo(ResizeMode mode) {
  switch (mode) {
    case ResizeMode::nearest: return 0;
    case ResizeMode::bilinear: return 1;
    case ResizeMode::bicubic: return 2;
  }
  return 0;
}

}  // namespace

int Node::halo_rows() const {
  if (op == NodeOp::conv) return kernel_h / 2;
  return op == NodeOp::resize ? resize_halo(mode) : 0;
}

int Node::halo_columns() const {
  if (op == NodeOp::conv) return kernel_w / 2;
  return op == NodeOp::resize ? resize_halo(mode) : 0;
}

}  // namespace fastsr
