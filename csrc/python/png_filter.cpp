#include "python/png_filter.hpp"

#include <cstdlib>

namespace fastsr {
namespace {

// The neighbour (left, above, above left) that is nearest to left + above - above left.
int paeth(int a, int b, int c) {
  const int to_a = std::abs(b - c), to_b = std::abs(a - c), to_c = std::abs(a + b - 2 * c);
  if (to_a <= to_b && to_a <= to_c) return a;
  return to_b <= to_c ? b : c;
}

template <class Predict>
void undo(const unsigned char* line, std::size_t size, std::size_t pixel_bytes, const unsigned char* above,
          unsigned char* out, const Predict& predict) {
  for (std::size_t i = 0; i < size; ++i) {
    const bool first = i < pixel_bytes;
    const int a = first ? 0 : out[i - pixel_bytes], c = first ? 0 : above[i - pixel_bytes];
    out[i] = static_cast<unsigned char>(line[i] + predict(a, above[i], c));
  }
}

}  // namespace

std::size_t undo_png_filters(const unsigned char* lines, std::size_t count, std::size_t size, std::size_t pixel_bytes,
                             const unsigned char* above, unsigned char* out) {
  for (std::size_t n = 0; n < count; ++n, above = out, out += size) {
    const unsigned char filter = *lines++;
    switch (filter) {
      case 0: undo(lines, size, pixel_bytes, above, out, [](int, int, int) { return 0; }); break;
      case 1: undo(lines, size, pixel_bytes, above, out, [](int a, int, int) { return a; }); break;
      case 2: undo(lines, size, pixel_bytes, above, out, [](int, int b, int) { return b; }); break;
      case 3: undo(lines, size, pixel_bytes, above, out, [](int a, int b, int) { return (a + b) / 2; }); break;
      case 4: undo(lines, size, pixel_bytes, above, out, paeth); break;
      default: return n;
    }
    lines += size;
  }
  return count;
}

}  // namespace fastsr
