// The tiles of AMX-BF16. In assembly, so that the file that includes this needs no option for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace {

struct HardwareTiles {
  // Tiles 0 to 3 have `channels` rows of 16 floats, 4 and 5 `channels` rows of `cells` cells, 6 and 7 `cells` rows
  // of 16.
  static void configure(int channels, int cells) {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    for (int tile = 0; tile < 8; ++tile) {
      config.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? channels : cells);
      config.row_bytes[tile] = static_cast<std::uint16_t>(tile == 4 || tile == 5 ? cells * 4 : 64);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { __asm__ volatile("tilerelease"); }
  template <int tile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(tile));
  }
  // Rows that lie `pitch` words apart.
  template <int tile, class Word>
  static void load(const Word* from, std::ptrdiff_t pitch) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(pitch * 4), "i"(tile) : "memory");
  }
  template <int tile>
  static void store(float* to, std::ptrdiff_t pitch) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(pitch * 4), "i"(tile) : "memory");
  }
  // sum += a b
  template <int sum, int a, int b>
  static void multiply() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
  }
};

}  // namespace
