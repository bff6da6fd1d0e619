#include "cpu/kernels.hpp"
#include "cpu/simd_scalar.hpp"

namespace {
constexpr int kRegisters = 16;  // accumulators, inputs and one weight
constexpr int kMaxBlock = 4;    // output channels at once
constexpr int kMaxVectors = 8;
constexpr int kMaxTileBlock = 4;
constexpr int kMaxPartBlock = 4;
constexpr int kTileVectors = 1;
constexpr bool kInterleave = false;
}  // namespace

#define FASTSR_LEVEL kScalar
#define FASTSR_LEVEL_NAME "scalar"
#include "cpu/kernels.inl"
