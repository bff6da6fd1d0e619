// How kernels read and write values, and the steps at a kernel's end. Each step does what its twin in cpu/kernels.inl
// does, with the same roundings.
#pragma once

#include "cuda/kernels.hpp"
#include "cuda/portable.hpp"

namespace fastsr::cuda {

#if defined(__CUDACC__)
using Vector16 = uint4;
#else
struct alignas(16) Vector16 {
  std::uint32_t x, y, z, w;
};
#endif

template <class T>
FASTSR_HD T* pixel_of(const Rows& rows, int y, int x) {
  return static_cast<T*>(rows.pool) + rows.slots[y - rows.first_row] * rows.slot_elements +
         static_cast<std::int64_t>(x - rows.first_column) * rows.pitch;
}

FASTSR_HD void read8(const float* p, float (&v)[kChunk]) {
  FASTSR_UNROLL
  for (int i = 0; i < kChunk; ++i) v[i] = p[i];
}

FASTSR_HD void read8(const Half* p, float (&v)[kChunk]) {
  const Vector16 all = *reinterpret_cast<const Vector16*>(p);
  const std::uint32_t words[4] = {all.x, all.y, all.z, all.w};
  FASTSR_UNROLL
  for (int i = 0; i < kChunk; ++i) {
    v[i] = to_float(Half{static_cast<std::uint16_t>(i % 2 == 0 ? words[i / 2] : words[i / 2] >> 16)});
  }
}

// Whether fp16 holds the value; false where it is NaN.
FASTSR_HD bool holds(float v) { return v <= kMostHalf && v >= -kMostHalf; }

FASTSR_HD void write8(float* p, const float (&v)[kChunk], Flags*) {
  FASTSR_UNROLL
  for (int i = 0; i < kChunk; ++i) p[i] = v[i];
}

FASTSR_HD void write8(Half* p, const float (&v)[kChunk], Flags* flags) {
  std::uint32_t words[4];
  bool good = true;
  FASTSR_UNROLL
  for (int i = 0; i < kChunk; i += 2) {
    good = good && holds(v[i]) && holds(v[i + 1]);
    words[i / 2] = to_half(v[i]).bits | static_cast<std::uint32_t>(to_half(v[i + 1]).bits) << 16;
  }
  if (!good) flags->values = 1;
  *reinterpret_cast<Vector16*>(p) = Vector16{words[0], words[1], words[2], words[3]};
}

FASTSR_HD void write1(float* p, float v, Flags*) { *p = v; }
FASTSR_HD void write1(Half* p, float v, Flags* flags) {
  if (!holds(v)) flags->values = 1;
  *p = to_half(v);
}

// ---- exp, sigmoid, tanh: the same polynomial as on the CPU ----

FASTSR_HD float exponential(float x) {
  x = x > -87.0f ? x : -87.0f;
  x = x < 87.0f ? x : 87.0f;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
  const float biased = fused(x, 1.44269504088896341f, magic);
  const float n = biased - magic;
  float r = fused(n, -0.693359375f, x);  // ln 2 in two parts
  r = fused(n, 2.12194440e-4f, r);
  float p = 1.0f / 5040;  // Taylor: |r| <= ln(2) / 2
  p = fused(p, r, 1.0f / 720);
  p = fused(p, r, 1.0f / 120);
  p = fused(p, r, 1.0f / 24);
  p = fused(p, r, 1.0f / 6);
  p = fused(p, r, 0.5f);
  p = fused(p, r, 1.0f);
  p = fused(p, r, 1.0f);
  return bits_float(float_bits(p) + (float_bits(biased) << 23));
}

FASTSR_HD float sigmoid(float x) { return divided(1.0f, 1.0f + exponential(0.0f - x)); }
FASTSR_HD float hyperbolic_tangent(float x) { return 1.0f - divided(2.0f, 1.0f + exponential(x + x)); }

// ---- steps ----

// One step on channels c..c + 7 of pixel (y, x); `of` is what the kernel makes.
template <class T>
FASTSR_HD void apply_step(const DeviceStep& s, const Rows& of, int y, int x, int c, float (&v)[kChunk]) {
  switch (s.op) {
    case StepOp::relu:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = v[i] > 0.0f ? v[i] : 0.0f;
      break;
    case StepOp::leaky_relu:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = v[i] > 0.0f ? v[i] : v[i] * s.a;
      break;
    case StepOp::prelu:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = v[i] > 0.0f ? v[i] : v[i] * s.tensor0[c + i];
      break;
    case StepOp::sigmoid:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = sigmoid(v[i]);
      break;
    case StepOp::tanh:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = hyperbolic_tangent(v[i]);
      break;
    case StepOp::clip:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) {
        v[i] = v[i] > s.a ? v[i] : s.a;
        v[i] = v[i] < s.b ? v[i] : s.b;
      }
      break;
    case StepOp::affine:
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = fused(v[i], s.tensor0[c + i], s.tensor1[c + i]);
      break;
    case StepOp::add:
    case StepOp::mul: {
      Rows other = of;
      other.slots = s.slots;
      other.first_row = s.first_row;
      other.first_column = s.first_column;
      float w[kChunk];
      read8(pixel_of<T>(other, y, x) + c, w);
      FASTSR_UNROLL
      for (int i = 0; i < kChunk; ++i) v[i] = s.op == StepOp::add ? v[i] + w[i] : v[i] * w[i];
      break;
    }
  }
}

// Apply the steps to channels c..c + 7 of a pixel, and write them; the padding becomes zero.
template <class T>
FASTSR_HD void finish8(const Steps& steps, const Rows& to, int y, int x, int c, float (&v)[kChunk], Flags* flags) {
  for (int s = 0; s < steps.count; ++s) apply_step<T>(steps.step[s], to, y, x, c, v);
  FASTSR_UNROLL
  for (int i = 0; i < kChunk; ++i) v[i] = c + i < to.channels ? v[i] : 0.0f;
  write8(pixel_of<T>(to, y, x) + c, v, flags);
}

}  // namespace fastsr::cuda
