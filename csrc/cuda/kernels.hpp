// The GPU's kernels: what they are given, and the functions that put them on a stream.
//
// A value lies in memory row by row, a row as [column][channel] with the channels padded to a multiple of 8; the
// padding is zero. Where row y begins is looked up in a table, so that rows come from a pool and go back to it
// (runtime/plan.hpp says when). Arithmetic is fp32 on values stored as fp32 or fp16. In fp32, all but the tensor cores'
// kernel do what the CPU's direct convolution does, operation for operation, and so give the same bits.
#pragma once

#include <cstdint>

#include "core/image.hpp"
#include "core/status.hpp"
#include "cuda/portable.hpp"
#include "graph/graph.hpp"
#include "graph/resize.hpp"

namespace fastsr::cuda {

enum class Precision { fp32, fp16 };

inline std::size_t size_of(Precision precision) { return precision == Precision::fp32 ? 4 : 2; }

constexpr int kChunk = 8;  // channels that a thread moves at once
inline int padded(int channels) { return (channels + kChunk - 1) / kChunk * kChunk; }

// Rows of a value: row y begins at element slots[y - first_row] * slot_elements of `pool`.
struct Rows {
  void* pool = nullptr;
  const std::int32_t* slots = nullptr;
  std::int64_t slot_elements = 0;
  int first_row = 0;
  int first_column = 0;  // column that a row begins with
  int channels = 0;
  int pitch = 0;  // channels with their padding
};

// What a kernel makes: rows and columns of the value, in its own pixels.
struct Part {
  int row_begin = 0;
  int row_end = 0;
  int column_begin = 0;
  int column_end = 0;
};

// One step; its other operand has the pool, and so the shape, of what the kernel makes.
struct DeviceStep {
  StepOp op = StepOp::relu;
  float a = 0;
  float b = 0;
  int first_row = 0;
  int first_column = 0;
  const float* tensor0 = nullptr;  // padded with zeros, as the channels are
  const float* tensor1 = nullptr;
  const std::int32_t* slots = nullptr;
};

constexpr int kMaxStepsAtOnce = 16;  // a node with more gets further launches

struct Steps {
  int count = 0;
  DeviceStep step[kMaxStepsAtOnce];
};

// Set by kernels, never cleared by them.
struct Flags {
  int input = 0;   // a pixel of the input is NaN or infinite
  int values = 0;  // a value is NaN, or beyond what its storage holds
};

// How a convolution's weights lie in memory.
enum class ConvKind {
  plain,   // any kernel, any groups: [k][c][ky][kx], an output channel padded to nothing
  direct,  // one group: [block of 8 k][ky][c, padded][kx][8]
  tensor,  // one group, fp16: fragments of mma.m16n8k16, see conv_tensor.cu
};

// Of ConvKind::tensor: input channels go through shared memory `slab` chunks at a time.
struct TensorShape {
  int tiles = 0;   // of 8 output channels, that a block makes
  int blocks = 0;  // of so many tiles, for all output channels
  int slab = 0;    // chunks of 8 input channels
  int slabs = 0;
  int steps = 0;  // of 16 products, for a slab
};

// Pixels of the result that a block of the tensor cores' kernel makes.
constexpr int kTensorRows = 16;
constexpr int kTensorColumns = 16;
// Shared memory of a block.
int tensor_shared_bytes(const TensorShape& shape, int kernel_h, int kernel_w);

struct ConvArgs {
  Precision precision = Precision::fp32;
  ConvKind kind = ConvKind::plain;
  TensorShape shape;
  Rows x;
  Rows y;
  Part part;
  int height = 0;  // of the whole value: zeros lie outside
  int width = 0;
  int kernel_h = 1;
  int kernel_w = 1;
  int groups = 1;
  const void* weights = nullptr;
  const float* bias = nullptr;  // padded
  Steps steps;
  Flags* flags = nullptr;
};

struct PointwiseArgs {
  Precision precision = Precision::fp32;
  Rows x;
  Rows y;
  Part part;
  Steps steps;
  Flags* flags = nullptr;
};

// y[c] = x[c + x_channel - y_channel] for y_channel <= c < y_channel + count, and zero from there up to `clear_to`.
struct CopyArgs {
  Precision precision = Precision::fp32;
  Rows x;
  Rows y;
  Part part;
  int x_channel = 0;
  int y_channel = 0;
  int count = 0;
  int clear_to = 0;
};

struct ShuffleArgs {
  Precision precision = Precision::fp32;
  Rows x;
  Rows y;
  Part part;
  int factor = 1;
};

constexpr int kMaxResizeFactor = 16;

struct ResizeArgs {
  Precision precision = Precision::fp32;
  Rows x;
  Rows y;
  Part part;
  int height = 0;  // of x, the whole value: its edge repeats
  int width = 0;
  int factor = 1;
  int taps = 1;
  int start[kMaxResizeFactor] = {};  // of each phase: the first tap's distance from the input pixel
  float weights[kMaxResizeFactor][kMaxTaps] = {};
  Flags* flags = nullptr;
};

// Pixels on the device; (row, column) is where `data` points to, strides are in bytes.
struct DevicePixels {
  unsigned char* data = nullptr;
  PixelType type = PixelType::u8;
  int row = 0;
  int column = 0;
  std::int64_t row_stride = 0;
  std::int64_t pixel_stride = 0;
  std::int64_t channel_stride = 0;
};

// y = pixel * gain + offset
struct LoadArgs {
  Precision precision = Precision::fp32;
  DevicePixels pixels;
  Rows y;
  Part part;
  float gain = 1;
  float offset = 0;
  Flags* flags = nullptr;
};

// pixel = x * gain + offset, rounded half to even and clamped to low..high where pixels are integers. Part is in
// pixels of the result, whose channels are `channels`; factor > 1: a pixel shuffle on the way.
struct StoreArgs {
  Precision precision = Precision::fp32;
  Rows x;
  DevicePixels pixels;
  Part part;
  int channels = 0;
  int factor = 1;
  float gain = 1;
  float offset = 0;
  float low = 0;
  float high = 0;
  Flags* flags = nullptr;
};

Status convolve(const ConvArgs& args, Stream stream);
Status convolve_direct(const ConvArgs& args, Stream stream);
Status convolve_tensor(const ConvArgs& args, Stream stream);
Status apply(const PointwiseArgs& args, Stream stream);
Status copy_channels(const CopyArgs& args, Stream stream);
Status shuffle(const ShuffleArgs& args, Stream stream);
Status resize(const ResizeArgs& args, Stream stream);
Status load(const LoadArgs& args, Stream stream);
Status store(const StoreArgs& args, Stream stream);

}  // namespace fastsr::cuda
