// A view of somebody's pixels: no ownership, any strides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastsr {

enum class PixelType { u8, u16, i16, f32 };

inline std::size_t size_of(PixelType type) {
  switch (type) {
    case PixelType::u8: return 1;
    case PixelType::u16:
    case PixelType::i16: return 2;
    case PixelType::f32: return 4;
  }
  return 0;
}

// (height, width, channels) pixels; strides in bytes, of any sign.
struct ImageView {
  unsigned char* data = nullptr;
  PixelType type = PixelType::u8;
  std::int64_t height = 0;
  std::int64_t width = 0;
  int channels = 0;
  std::ptrdiff_t row_stride = 0;
  std::ptrdiff_t pixel_stride = 0;
  std::ptrdiff_t channel_stride = 0;

  unsigned char* at(std::int64_t y, std::int64_t x) const { return data + y * row_stride + x * pixel_stride; }
};

// Half-open intervals of pixels.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

struct Box {
  Range rows;
  Range columns;
};

}  // namespace fastsr
