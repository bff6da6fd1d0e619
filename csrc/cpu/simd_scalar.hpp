// A vector of one float: the reference level. Every operation rounds once, as the wider levels do.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

struct Vec {
  static constexpr int kSize = 1;
  float v;
};

inline Vec load(const float* p) { return {*p}; }
// kSize floats from p[shift] on, 0 <= shift < 16.
struct Shift {
  int by;
};
inline Shift shift_by(int by) { return {by}; }
inline Vec load_shifted(const float* p, Shift shift) { return load(p + shift.by); }
inline void store(float* p, Vec x) { *p = x.v; }
inline Vec broadcast(float x) { return {x}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
inline Vec add(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec sub(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec mul(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec div(Vec a, Vec b) { return {a.v / b.v}; }
inline Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }  // b where either is NaN, as x86 does
inline Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
// x > 0 ? a : b
inline Vec where_positive(Vec x, Vec a, Vec b) { return x.v > 0 ? a : b; }
// x * 2^n, where n is the low bits of `biased` = n + 1.5 * 2^23
inline Vec scale_by_power(Vec x, Vec biased) {
  std::uint32_t a, n;
  std::memcpy(&a, &x.v, 4);
  std::memcpy(&n, &biased.v, 4);
  a += n << 23;
  std::memcpy(&x.v, &a, 4);
  return x;
}

// (edge, x0, x1, ...) and (x1, ..., edge)
inline Vec shift_up(Vec, float edge) { return {edge}; }
inline Vec shift_down(Vec, float edge) { return {edge}; }
// From 4 vectors of pixels to 4 vectors of every fourth pixel, and back.
inline void deinterleave(const Vec* in, Vec* out) {
  for (int i = 0; i < 4; ++i) out[i] = in[i];
}
inline void interleave(const Vec* in, Vec* out) {
  for (int i = 0; i < 4; ++i) out[i] = in[i];
}

}  // namespace
