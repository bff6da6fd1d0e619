// What lets one source be compiled by nvcc for a GPU, and by any C++ compiler for the emulated one (cuda/emulated).
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FASTSR_HD __host__ __device__ __forceinline__
#define FASTSR_DEVICE __device__ __forceinline__
#else
#include <cmath>
#include <cstring>
#define FASTSR_HD inline
#define FASTSR_DEVICE inline
#endif

// nvcc knows `unroll`, other compilers need not.
#if defined(__CUDACC__)
#define FASTSR_UNROLL _Pragma("unroll")
#else
#define FASTSR_UNROLL
#endif

namespace fastsr::cuda {

// A queue of work on the device: a cudaStream_t; nullptr is the default stream.
using Stream = void*;

// A 16-bit IEEE number as memory holds it; arithmetic is done in float.
struct Half {
  std::uint16_t bits;
};

constexpr float kMostHalf = 65504.0f;

FASTSR_HD std::uint32_t float_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

FASTSR_HD float bits_float(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

// Rounds to nearest, ties to even; infinite where |x| is too large.
FASTSR_HD Half to_half(float x) {
#if defined(__CUDA_ARCH__)
  Half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
  return h;
#else
  const std::uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000u;
  std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};   // NaN
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {  // a subnormal half: adding 0.5 makes its last bit that of the sum
    const std::uint32_t sum = float_bits(bits_float(magnitude) + 0.5f);
    return {static_cast<std::uint16_t>(sign | (sum - 0x3f000000u))};
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u) >> 13))};
#endif
}

FASTSR_HD float to_float(Half h) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h.bits));
  return x;
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude < 0x400u) {
    const float small = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // 2^-24
    return bits_float(sign | float_bits(small));
  }
  return bits_float(sign | ((magnitude << 13) + 0x38000000u));
#endif
}

FASTSR_HD float to_float(float x) { return x; }

// One rounding, on every processor.
FASTSR_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return fmaf(a, b, c);
#endif
}

FASTSR_HD float divided(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

FASTSR_HD int smaller(int a, int b) { return a < b ? a : b; }
FASTSR_HD int larger(int a, int b) { return a > b ? a : b; }
FASTSR_HD int clamped(int x, int low, int high) { return smaller(larger(x, low), high); }

}  // namespace fastsr::cuda
