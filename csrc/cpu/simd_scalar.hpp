// A vector of one float, or one cell: the reference level. Every operation rounds once, as the wider levels do.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/winograd.hpp"

namespace {

using fastsr::Cell;

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
inline void deinterleave3(const Vec* in, Vec* out) {
  for (int i = 0; i < 3; ++i) out[i] = in[i];
}
inline void interleave2(const Vec* in, Vec* out) {
  for (int i = 0; i < 2; ++i) out[i] = in[i];
}
inline void interleave(const Vec* in, Vec* out) {
  for (int i = 0; i < 4; ++i) out[i] = in[i];
}

// Two 16-bit integers; what leaves 16 bits wraps around.
struct Cells {
  static constexpr int kSize = 1;
  std::int32_t v;
};

inline std::int32_t even_half(std::int32_t x) { return static_cast<std::int16_t>(static_cast<std::uint16_t>(x)); }
inline std::int32_t odd_half(std::int32_t x) { return x >> 16; }
inline Cells join(std::int32_t even, std::int32_t odd) {
  const auto low = static_cast<std::uint32_t>(even) & 0xffffu, high = static_cast<std::uint32_t>(odd) << 16;
  return {static_cast<std::int32_t>(low | high)};
}

inline Cells load(const Cell* p) { return {*p}; }
inline void store(Cell* p, Cells x) { *p = x.v; }
inline Cells broadcast_cell(Cell x) { return {x}; }
inline Cells add16(Cells a, Cells b) { return join(even_half(a.v) + even_half(b.v), odd_half(a.v) + odd_half(b.v)); }
inline Cells sub16(Cells a, Cells b) { return join(even_half(a.v) - even_half(b.v), odd_half(a.v) - odd_half(b.v)); }
inline Cells quadruple16(Cells a) { return join(even_half(a.v) * 4, odd_half(a.v) * 4); }
inline Cells shift_up(Cells, Cell edge) { return {edge}; }
inline Cells shift_down(Cells, Cell edge) { return {edge}; }
// sum + even a * even b + odd a * odd b, in 32 bits
inline Cells dot(Cells a, Cells b, Cells sum) {
  return {sum.v + even_half(a.v) * even_half(b.v) + odd_half(a.v) * odd_half(b.v)};
}
// The same bits as floats, and back, to be moved about.
inline Vec as_floats(Cells x) {
  Vec y;
  std::memcpy(&y.v, &x.v, 4);
  return y;
}
inline Cells as_cells(Vec x) {
  Cells y;
  std::memcpy(&y.v, &x.v, 4);
  return y;
}
// The halves of bf16 cells as floats, and back, rounded half to even.
inline Vec bf16_even(Cells x) { return as_floats({static_cast<std::int32_t>(static_cast<std::uint32_t>(x.v) << 16)}); }
inline Vec bf16_odd(Cells x) {
  return as_floats({static_cast<std::int32_t>(static_cast<std::uint32_t>(x.v) & 0xffff0000u)});
}
inline std::uint32_t round_bf16(Vec x) {
  const auto bits = static_cast<std::uint32_t>(as_cells(x).v);
  return bits + 0x7fffu + (bits >> 16 & 1u);
}
inline Cells join_bf16(Vec even, Vec odd) {
  return {static_cast<std::int32_t>(round_bf16(even) >> 16 | (round_bf16(odd) & 0xffff0000u))};
}
// The even halves of two, side by side in cells; the odd ones.
inline Cells join_even(Cells a, Cells b) { return join(even_half(a.v), even_half(b.v)); }
inline Cells join_odd(Cells a, Cells b) { return join(odd_half(a.v), odd_half(b.v)); }
inline Vec to_floats(Cells x) { return {static_cast<float>(x.v)}; }
inline Cells even_halves(Cells x) { return {even_half(x.v)}; }
inline Cells odd_halves(Cells x) { return {odd_half(x.v)}; }
inline Cells max32(Cells a, Cells b) { return a.v > b.v ? a : b; }
inline Cells min32(Cells a, Cells b) { return a.v < b.v ? a : b; }

}  // namespace
