#include "cpu/kernels.hpp"
#include "cpu/simd_avx2.hpp"

namespace {
constexpr int kRegisters = 16;  // accumulators, inputs and one weight
constexpr int kMaxBlock = 4;    // output channels at once
constexpr int kMaxVectors = 6;
constexpr int kMaxTileBlock = 6;
constexpr int kMaxPartBlock = 6;
constexpr int kTileVectors = 2;
constexpr bool kInterleave = false;
}  // namespace

#define FASTSR_LEVEL kAvx2
#define FASTSR_LEVEL_NAME "avx2"
#define FASTSR_VNNI kAvx2Vnni
#include "cpu/kernels.inl"
