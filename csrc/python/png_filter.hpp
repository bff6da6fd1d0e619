// The filters of PNG scanlines (ISO/IEC 15948, section 9): in Python, pixel by pixel, they would take minutes.
#pragma once

#include <cstddef>

namespace fastsr {

// lines: `count` scanlines, each its filter's number and `size` bytes; above: the row before them, zeros for the first;
// out: rows of `size` bytes. Returns the lines that were undone: fewer than count where one has an unknown filter.
std::size_t undo_png_filters(const unsigned char* lines, std::size_t count, std::size_t size, std::size_t pixel_bytes,
                             const unsigned char* above, unsigned char* out);

}  // namespace fastsr
