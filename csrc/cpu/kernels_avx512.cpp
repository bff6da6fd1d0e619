#include "cpu/amx.hpp"
#include "cpu/kernels.hpp"
#include "cpu/simd_avx512.hpp"

namespace {
constexpr int kRegisters = 32;  // accumulators, inputs and one weight
constexpr int kMaxBlock = 9;    // output channels at once
constexpr int kMaxVectors = 8;
constexpr int kMaxTileBlock = 9;  // the same for tiles, and with how many vectors of them
constexpr int kTileVectors = 3;
}  // namespace

#define FASTSR_LEVEL kAvx512
#define FASTSR_LEVEL_NAME "avx512"
#define FASTSR_VNNI kAvx512Vnni
#define FASTSR_BF16 kAvx512Bf16
#define FASTSR_AMX kAmxBf16
#include "cpu/kernels.inl"
