#include <cstring>

#include "cpu/kernels.hpp"

namespace fastsr {

bool pack_conv(const Node& node, const float* weight, const float* bias, const Kernels& kernels, PackedConv& out) {
  const int groups = node.groups;
  const int k_per_group = node.channels / groups;
  // As few blocks as possible, and as even as possible: 50 = 2 x 9 + 4 x 8.
  const int blocks = (k_per_group + kernels.max_block - 1) / kernels.max_block;
  const std::size_t taps = static_cast<std::size_t>(node.kernel_h) * static_cast<std::size_t>(node.kernel_w);
  out.kernel_h = node.kernel_h;
  out.kernel_w = node.kernel_w;
  out.channels = node.channels;
  const int c_per_group = node.input_channels / groups;
  out.c_per_group = c_per_group;
  const std::size_t per_k = taps * static_cast<std::size_t>(c_per_group);
  if (!out.weights.allocate(per_k * static_cast<std::size_t>(node.channels)) ||
      !out.bias.allocate(static_cast<std::size_t>(node.channels))) {
    return false;
  }
  for (int k = 0; k < node.channels; ++k) out.bias.data()[k] = bias ? bias[k] : 0.0f;
  float* to = out.weights.data();
  for (int g = 0; g < groups; ++g) {
    for (int b = 0; b < blocks; ++b) {
      ConvBlock block;
      const int begin = b * k_per_group / blocks;
      block.k0 = g * k_per_group + begin;
      block.count = (b + 1) * k_per_group / blocks - begin;
      block.c0 = g * c_per_group;
      block.weights = static_cast<std::size_t>(to - out.weights.data());
      out.blocks.push_back(block);
      for (int ky = 0; ky < node.kernel_h; ++ky) {
        for (int c = 0; c < c_per_group; ++c) {
          for (int kx = 0; kx < node.kernel_w; ++kx) {
            for (int m = 0; m < block.count; ++m) {
              const std::size_t k = static_cast<std::size_t>(block.k0 + m);
              *to++ = weight[(k * static_cast<std::size_t>(c_per_group) + static_cast<std::size_t>(c)) * taps +
                             static_cast<std::size_t>(ky * node.kernel_w + kx)];
            }
          }
        }
      }
    }
  }
  return true;
}

}  // namespace fastsr
