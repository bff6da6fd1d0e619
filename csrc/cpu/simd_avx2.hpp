// Eight floats, or eight cells: AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include "cpu/winograd.hpp"

namespace {

using fastsr::Cell;

struct Vec {
  static constexpr int kSize = 8;
  __m256 v;
};

inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
// kSize floats from p[shift] on, 0 <= shift < 16.
struct Shift {
  int by;
};
inline Shift shift_by(int by) { return {by}; }
inline Vec load_shifted(const float* p, Shift shift) { return load(p + shift.by); }
inline void store(float* p, Vec x) { _mm256_storeu_ps(p, x.v); }
inline Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec where_positive(Vec x, Vec a, Vec b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_GT_OQ))};
}
inline Vec scale_by_power(Vec x, Vec biased) {
  const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(biased.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.v), n))};
}

inline Vec shift_up(Vec x, float edge) {
  const __m256 moved = _mm256_permutevar8x32_ps(x.v, _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6));
  return {_mm256_blend_ps(moved, _mm256_set1_ps(edge), 1)};
}
inline Vec shift_down(Vec x, float edge) {
  const __m256 moved = _mm256_permutevar8x32_ps(x.v, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 7));
  return {_mm256_blend_ps(moved, _mm256_set1_ps(edge), 128)};
}
inline __m256 low_pairs(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline __m256 high_pairs(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline void deinterleave(const Vec* in, Vec* out) {
  const __m256 a = _mm256_permute2f128_ps(in[0].v, in[2].v, 0x20), b = _mm256_permute2f128_ps(in[0].v, in[2].v, 0x31);
  const __m256 c = _mm256_permute2f128_ps(in[1].v, in[3].v, 0x20), d = _mm256_permute2f128_ps(in[1].v, in[3].v, 0x31);
  const __m256 ab0 = _mm256_unpacklo_ps(a, b), ab1 = _mm256_unpackhi_ps(a, b);
  const __m256 cd0 = _mm256_unpacklo_ps(c, d), cd1 = _mm256_unpackhi_ps(c, d);
  out[0] = {low_pairs(ab0, cd0)};
  out[1] = {high_pairs(ab0, cd0)};
  out[2] = {low_pairs(ab1, cd1)};
  out[3] = {high_pairs(ab1, cd1)};
}
inline void deinterleave3(const Vec* in, Vec* out) {
  const __m256 a = _mm256_blend_ps(_mm256_blend_ps(in[0].v, in[1].v, 0x92), in[2].v, 0x24);
  const __m256 b = _mm256_blend_ps(_mm256_blend_ps(in[0].v, in[1].v, 0x24), in[2].v, 0x49);
  const __m256 c = _mm256_blend_ps(_mm256_blend_ps(in[0].v, in[1].v, 0x49), in[2].v, 0x92);
  out[0] = {_mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5))};
  out[1] = {_mm256_permutevar8x32_ps(b, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6))};
  out[2] = {_mm256_permutevar8x32_ps(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7))};
}
inline void interleave2(const Vec* in, Vec* out) {
  const __m256 low = _mm256_unpacklo_ps(in[0].v, in[1].v), high = _mm256_unpackhi_ps(in[0].v, in[1].v);
  out[0] = {_mm256_permute2f128_ps(low, high, 0x20)};
  out[1] = {_mm256_permute2f128_ps(low, high, 0x31)};
}
inline void interleave(const Vec* in, Vec* out) {
  const __m256 ab0 = _mm256_unpacklo_ps(in[0].v, in[1].v), ab1 = _mm256_unpackhi_ps(in[0].v, in[1].v);
  const __m256 cd0 = _mm256_unpacklo_ps(in[2].v, in[3].v), cd1 = _mm256_unpackhi_ps(in[2].v, in[3].v);
  const __m256 a = low_pairs(ab0, cd0), b = high_pairs(ab0, cd0), c = low_pairs(ab1, cd1), d = high_pairs(ab1, cd1);
  out[0] = {_mm256_permute2f128_ps(a, b, 0x20)};
  out[1] = {_mm256_permute2f128_ps(c, d, 0x20)};
  out[2] = {_mm256_permute2f128_ps(a, b, 0x31)};
  out[3] = {_mm256_permute2f128_ps(c, d, 0x31)};
}

struct Cells {
  static constexpr int kSize = 8;
  __m256i v;
};

inline Cells load(const Cell* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline void store(Cell* p, Cells x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
inline Cells broadcast_cell(Cell x) { return {_mm256_set1_epi32(x)}; }
inline Cells add16(Cells a, Cells b) { return {_mm256_add_epi16(a.v, b.v)}; }
inline Cells sub16(Cells a, Cells b) { return {_mm256_sub_epi16(a.v, b.v)}; }
inline Cells quadruple16(Cells a) { return {_mm256_slli_epi16(a.v, 2)}; }
inline Cells shift_up(Cells x, Cell edge) {
  const __m256i moved = _mm256_permutevar8x32_epi32(x.v, _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6));
  return {_mm256_blend_epi32(moved, _mm256_set1_epi32(edge), 1)};
}
inline Cells shift_down(Cells x, Cell edge) {
  const __m256i moved = _mm256_permutevar8x32_epi32(x.v, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 7));
  return {_mm256_blend_epi32(moved, _mm256_set1_epi32(edge), 128)};
}
inline Cells dot(Cells a, Cells b, Cells sum) { return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))}; }
// The same by AVX-VNNI, for processors that have it without AVX-512.
inline Cells dot_vnni(Cells a, Cells b, Cells sum) {
  __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum.v) : "x"(a.v), "x"(b.v));
  return sum;
}
inline Cells dot_vnni_all(const Cell* a, Cells b, Cells sum) { return dot_vnni({_mm256_set1_epi32(*a)}, b, sum); }
inline Vec as_floats(Cells x) { return {_mm256_castsi256_ps(x.v)}; }
inline Cells as_cells(Vec x) { return {_mm256_castps_si256(x.v)}; }
inline Vec bf16_even(Cells x) { return {_mm256_castsi256_ps(_mm256_slli_epi32(x.v, 16))}; }
inline Vec bf16_odd(Cells x) {
  return {_mm256_castsi256_ps(_mm256_and_si256(x.v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
inline __m256i round_bf16(Vec x) {
  const __m256i bits = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
}
inline Cells join_bf16(Vec even, Vec odd) {
  return {_mm256_blend_epi16(_mm256_srli_epi32(round_bf16(even), 16), round_bf16(odd), 0xAA)};
}
inline Cells join_even(Cells a, Cells b) { return {_mm256_blend_epi16(a.v, _mm256_slli_epi32(b.v, 16), 0xAA)}; }
inline Cells join_odd(Cells a, Cells b) { return {_mm256_blend_epi16(_mm256_srli_epi32(a.v, 16), b.v, 0xAA)}; }
inline Vec to_floats(Cells x) { return {_mm256_cvtepi32_ps(x.v)}; }
inline Cells even_halves(Cells x) { return {_mm256_srai_epi32(_mm256_slli_epi32(x.v, 16), 16)}; }
inline Cells odd_halves(Cells x) { return {_mm256_srai_epi32(x.v, 16)}; }
inline Cells max32(Cells a, Cells b) { return {_mm256_max_epi32(a.v, b.v)}; }
inline Cells min32(Cells a, Cells b) { return {_mm256_min_epi32(a.v, b.v)}; }

}  // namespace
