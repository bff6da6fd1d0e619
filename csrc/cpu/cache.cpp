#include "cpu/cache.hpp"

#include <algorithm>

#if defined(FASTSR_X86)
#include <cpuid.h>
#endif

namespace fastsr {
namespace {

constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;
constexpr std::uint64_t kCommon = 16 * kMegabyte;
constexpr std::uint64_t kMost = 64 * kMegabyte;  // other programs use it, too, and what is larger lies farther away

#if defined(FASTSR_X86)
// Leaf 4, and AMD's 0x8000001D, list the caches one by one: "deterministic cache parameters" in both makers' manuals.
std::uint64_t listed(unsigned leaf) {
  std::uint64_t most = 0;
  for (unsigned index = 0; index < 16; ++index) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(leaf, index, &a, &b, &c, &d) == 0 || (a & 31u) == 0) break;
    const std::uint64_t line = (b & 0xfffu) + 1, partitions = (b >> 12 & 0x3ffu) + 1, ways = (b >> 22) + 1;
    most = std::max(most, line * partitions * ways * (std::uint64_t{c} + 1));
  }
  return most;
}
#endif

std::uint64_t read_largest_cache() {
  std::uint64_t bytes = 0;
#if defined(FASTSR_X86)
  bytes = std::max(listed(4), listed(0x8000001Du));
#endif
  return bytes < kMegabyte ? kCommon : std::min(bytes, kMost);
}

}  // namespace

std::uint64_t largest_cache() {
  static const std::uint64_t bytes = read_largest_cache();
  return bytes;
}

}  // namespace fastsr
