// A network's weights, packed for the kernels and kept on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/status.hpp"
#include "cuda/device.hpp"
#include "cuda/kernels.hpp"
#include "graph/graph.hpp"

namespace fastsr::cuda {

// Of one convolution. Offsets are in bytes from the weights' beginning.
struct PackedConv {
  ConvKind kind = ConvKind::plain;
  TensorShape shape;
  std::size_t weights = 0;
  std::size_t bias = 0;
};

class Weights {
 public:
  // slow: every convolution as it is defined, for comparison.
  static Result<std::unique_ptr<Weights>> make(const ModelFile& file, const Graph& graph, Precision precision,
                                               bool slow = false);

  Precision precision() const { return precision_; }
  std::size_t bytes() const { return block_.bytes(); }
  const PackedConv& conv(int node) const { return convs_[static_cast<std::size_t>(node)]; }
  const void* data(std::size_t offset) const { return block_.data() + offset; }
  // A step's tensor, padded with zeros; nullptr for -1.
  const float* tensor(int index) const;

 private:
  Weights() = default;

  Precision precision_ = Precision::fp32;
  std::vector<PackedConv> convs_;
  std::vector<std::size_t> tensors_;  // of each tensor of the file: where its padded copy lies
  Block block_;
};

// How a convolution is computed, and packed.
ConvKind kind_of(const Node& node, Precision precision);
TensorShape tensor_shape(const Node& node);

}  // namespace fastsr::cuda
