#include "cpu/amx.hpp"
#include "cpu/kernels.hpp"
#include "cpu/simd_avx512.hpp"

namespace {
constexpr int kRegisters = 32;  // accumulators, inputs and one weight
constexpr int kMaxBlock = 9;    // output channels at once
constexpr int kMaxVectors = 8;
constexpr int kMaxTileBlock = 10;  // the same for tiles of 3x3 layers
constexpr int kMaxPartBlock = 9;   // and for those of 9x9 layers, with how many vectors of tiles
constexpr int kTileVectors = 3;
constexpr bool kInterleave = true;  // enough registers for a block of products beside the transforms (winograd.inl)
}  // namespace

#define FASTSR_LEVEL kAvx512
#define FASTSR_LEVEL_NAME "avx512"
#define FASTSR_VNNI kAvx512Vnni
#define FASTSR_BF16 kAvx512Bf16
#define FASTSR_AMX kAmxBf16
#include "cpu/kernels.inl"
