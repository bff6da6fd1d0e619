#include "cuda/weights.hpp"

#include <algorithm>
#include <cstring>

namespace fastsr::cuda {
namespace {

constexpr int kTilesKnown[] = {1, 2, 4, 6, 7, 8};
constexpr int kMostTiles = 8;
constexpr int kSharedLimit = 48 << 10;  // that every GPU gives a block without being asked
constexpr std::size_t kAlignment = 256;
constexpr int kStepProducts = 16;  // of mma.m16n8k16
constexpr int kLanes = 32;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Everything that goes to the device, in one run of bytes.
class Arena {
 public:
  std::size_t add(const void* data, std::size_t size) {
    const std::size_t offset = (bytes_.size() + kAlignment - 1) / kAlignment * kAlignment;
    bytes_.resize(offset + size);
    if (size > 0) std::memcpy(bytes_.data() + offset, data, size);
    return offset;
  }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

std::vector<float> padded_copy(const float* data, int count) {
  std::vector<float> copy(at(padded(count)));
  if (data != nullptr) std::copy(data, data + count, copy.begin());
  return copy;
}

// The weight of (output channel, input channel, tap), zero where there is none. For one group.
struct WeightOf {
  const Node& node;
  const float* weight;

  float operator()(int k, int c, int tap) const {
    const int taps = node.kernel_h * node.kernel_w;
    if (k >= node.channels || c >= node.input_channels || tap >= taps) return 0;
    return weight[(static_cast<std::int64_t>(k) * node.input_channels + c) * taps + tap];
  }
};

// [block of 8 k][ky][c, padded][kx][8]
std::vector<float> pack_direct(const Node& node, const float* weight) {
  const WeightOf of{node, weight};
  const int inputs = padded(node.input_channels);
  std::vector<float> packed;
  packed.reserve(at(padded(node.channels)) * at(inputs) * at(node.kernel_h * node.kernel_w));
  for (int k0 = 0; k0 < node.channels; k0 += kChunk) {
    for (int ky = 0; ky < node.kernel_h; ++ky) {
      for (int c = 0; c < inputs; ++c) {
        for (int kx = 0; kx < node.kernel_w; ++kx) {
          for (int k = k0; k < k0 + kChunk; ++k) packed.push_back(of(k, c, ky * node.kernel_w + kx));
        }
      }
    }
  }
  return packed;
}

// [block][slab][step][tile][lane] two pairs: B(2 t + 8 i ..+1, g), i = 0, 1, with g = lane / 4, t = lane % 4. Row r of
// B belongs to the step's chunk r / 8; chunk i of a slab is (tap i / slab, input chunk i % slab).
std::vector<Half> pack_tensor(const Node& node, const float* weight, const TensorShape& shape) {
  const WeightOf of{node, weight};
  std::vector<Half> packed;
  packed.reserve(at(shape.blocks) * at(shape.slabs) * at(shape.steps) * at(shape.tiles) * kLanes * 4);
  for (int block = 0; block < shape.blocks; ++block) {
    for (int slab = 0; slab < shape.slabs; ++slab) {
      for (int step = 0; step < shape.steps; ++step) {
        for (int tile = 0; tile < shape.tiles; ++tile) {
          for (int lane = 0; lane < kLanes; ++lane) {
            const int k = (block * shape.tiles + tile) * kChunk + lane / 4;
            for (int i = 0; i < 2; ++i) {
              const int chunk = 2 * step + i, first = (slab * shape.slab + chunk % shape.slab) * kChunk;
              for (int j = 0; j < 2; ++j) {
                packed.push_back(to_half(of(k, first + 2 * (lane % 4) + j, chunk / shape.slab)));
              }
            }
          }
        }
      }
    }
  }
  return packed;
}

bool direct_knows(int width) { return width == 1 || width == 3 || width == 5 || width == 9; }

bool holds_all(const float* weight, std::int64_t count) {
  return std::all_of(weight, weight + count, [](float w) { return w <= kMostHalf && w >= -kMostHalf; });
}

}  // namespace

TensorShape tensor_shape(const Node& node) {
  TensorShape shape;
  const int tiles = padded(node.channels) / kChunk, chunks = padded(node.input_channels) / kChunk;
  shape.blocks = (tiles + kMostTiles - 1) / kMostTiles;
  const int even = (tiles + shape.blocks - 1) / shape.blocks;
  shape.tiles = *std::lower_bound(std::begin(kTilesKnown), std::end(kTilesKnown), even);
  for (shape.slabs = 1; shape.slabs <= chunks; ++shape.slabs) {
    shape.slab = (chunks + shape.slabs - 1) / shape.slabs;
    shape.steps = (node.kernel_h * node.kernel_w * shape.slab + 1) / 2;
    if (tensor_shared_bytes(shape, node.kernel_h, node.kernel_w) <= kSharedLimit) return shape;
  }
  return {};
}

ConvKind kind_of(const Node& node, Precision precision) {
  if (node.groups > 1) return ConvKind::plain;
  if (precision == Precision::fp16 && tensor_shape(node).tiles > 0) return ConvKind::tensor;
  return direct_knows(node.kernel_w) ? ConvKind::direct : ConvKind::plain;
}

Result<std::unique_ptr<Weights>> Weights::make(const ModelFile& file, const Graph& graph, Precision precision,
                                               bool slow) {
  std::unique_ptr<Weights> weights(new Weights);
  weights->precision_ = precision;
  weights->convs_.resize(graph.nodes.size());
  weights->tensors_.resize(file.tensors.size());
  Arena arena;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (const Step& step : node.steps) {
      for (int tensor : {step.tensor0, step.tensor1}) {
        if (tensor < 0) continue;
        const std::vector<float> copy = padded_copy(file.tensor(tensor), node.channels);
        weights->tensors_[at(tensor)] = arena.add(copy.data(), copy.size() * sizeof(float));
      }
    }
    if (node.op != NodeOp::conv) continue;
    const float* weight = file.tensor(node.weight);
    const int taps = node.kernel_h * node.kernel_w;
    const std::int64_t count = static_cast<std::int64_t>(node.channels) * (node.input_channels / node.groups) * taps;
    PackedConv& packed = weights->convs_[i];
    packed.kind = slow ? ConvKind::plain : kind_of(node, precision);
    // A weight that fp16 does not hold is rare, and kept as it is.
    if (packed.kind == ConvKind::tensor && !holds_all(weight, count)) packed.kind = kind_of(node, Precision::fp32);
    if (packed.kind == ConvKind::tensor) {
      packed.shape = tensor_shape(node);
      const std::vector<Half> data = pack_tensor(node, weight, packed.shape);
      packed.weights = arena.add(data.data(), data.size() * sizeof(Half));
    } else if (packed.kind == ConvKind::direct) {
      const std::vector<float> data = pack_direct(node, weight);
      packed.weights = arena.add(data.data(), data.size() * sizeof(float));
    } else {
      packed.weights = arena.add(weight, at(count) * sizeof(float));
    }
    // As many as the tensor cores' kernel may read.
    const int most = std::max(node.channels, packed.shape.blocks * packed.shape.tiles * kChunk);
    std::vector<float> bias = padded_copy(node.bias >= 0 ? file.tensor(node.bias) : nullptr, node.channels);
    bias.resize(at(padded(most)));
    packed.bias = arena.add(bias.data(), bias.size() * sizeof(float));
  }
  if (arena.bytes().empty()) return Result<std::unique_ptr<Weights>>(std::move(weights));
  Result<Block> block = Block::make(Place::device, arena.bytes().size());
  if (!block.ok()) return block.status();
  weights->block_ = std::move(block.value());
  FASTSR_TRY(copy_to_device(weights->block_.data(), arena.bytes().data(), arena.bytes().size(), nullptr));
  FASTSR_TRY(wait_for_stream(nullptr));
  return Result<std::unique_ptr<Weights>>(std::move(weights));
}

const float* Weights::tensor(int index) const {
  if (index < 0) return nullptr;
  return static_cast<const float*>(data(tensors_[static_cast<std::size_t>(index)]));
}

}  // namespace fastsr::cuda
