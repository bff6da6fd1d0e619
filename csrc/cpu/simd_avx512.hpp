// Sixteen floats, or sixteen cells: AVX-512 F and BW.
#pragma once

#include <immintrin.h>

#include "cpu/winograd.hpp"

namespace {

using fastsr::Cell;

struct Vec {
  static constexpr int kSize = 16;
  __m512 v;
};

inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
// kSize floats from p[shift] on, 0 <= shift < 16. From two loads: p is mostly aligned, and one load that crosses a
// cache line takes longer than both.
struct Shift {
  __m512i index;
};
inline Shift shift_by(int by) {
  const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_add_epi32(count, _mm512_set1_epi32(by))};
}
inline Vec load_shifted(const float* p, Shift shift) {
  return {_mm512_permutex2var_ps(_mm512_loadu_ps(p), shift.index, _mm512_loadu_ps(p + 16))};
}
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x.v); }
inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec where_positive(Vec x, Vec a, Vec b) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_GT_OQ), b.v, a.v)};
}
inline Vec scale_by_power(Vec x, Vec biased) {
  const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(biased.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.v), n))};
}

inline Vec shift_up(Vec x, float edge) {
  return {_mm512_castsi512_ps(
      _mm512_alignr_epi32(_mm512_castps_si512(x.v), _mm512_castps_si512(_mm512_set1_ps(edge)), 15))};
}
inline Vec shift_down(Vec x, float edge) {
  return {
      _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(_mm512_set1_ps(edge)), _mm512_castps_si512(x.v), 1))};
}
inline void deinterleave(const Vec* in, Vec* out) {
  const __m512i even = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const __m512i odd = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
  const __m512 a = _mm512_permutex2var_ps(in[0].v, even, in[1].v), b = _mm512_permutex2var_ps(in[2].v, even, in[3].v);
  const __m512 c = _mm512_permutex2var_ps(in[0].v, odd, in[1].v), d = _mm512_permutex2var_ps(in[2].v, odd, in[3].v);
  out[0] = {_mm512_shuffle_f32x4(a, b, 0x44)};
  out[1] = {_mm512_shuffle_f32x4(a, b, 0xEE)};
  out[2] = {_mm512_shuffle_f32x4(c, d, 0x44)};
  out[3] = {_mm512_shuffle_f32x4(c, d, 0xEE)};
}
inline void deinterleave3(const Vec* in, Vec* out) {
  constexpr __mmask16 kThird0 = 0x9249, kThird1 = 0x2492, kThird2 = 0x4924;  // every third lane
  const __m512 a = _mm512_mask_mov_ps(_mm512_mask_mov_ps(in[0].v, kThird2, in[1].v), kThird1, in[2].v);
  const __m512 b = _mm512_mask_mov_ps(_mm512_mask_mov_ps(in[0].v, kThird0, in[1].v), kThird2, in[2].v);
  const __m512 c = _mm512_mask_mov_ps(_mm512_mask_mov_ps(in[0].v, kThird1, in[1].v), kThird0, in[2].v);
  const __m512i first = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13);
  const __m512i one = _mm512_set1_epi32(1);  // an index is taken modulo 16
  const __m512i second = _mm512_add_epi32(first, one), third = _mm512_add_epi32(second, one);
  out[0] = {_mm512_permutexvar_ps(first, a)};
  out[1] = {_mm512_permutexvar_ps(second, b)};
  out[2] = {_mm512_permutexvar_ps(third, c)};
}
inline void interleave2(const Vec* in, Vec* out) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  out[0] = {_mm512_permutex2var_ps(in[0].v, low, in[1].v)};
  out[1] = {_mm512_permutex2var_ps(in[0].v, high, in[1].v)};
}
inline void interleave(const Vec* in, Vec* out) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  const __m512d a = _mm512_castps_pd(_mm512_permutex2var_ps(in[0].v, low, in[1].v));
  const __m512d b = _mm512_castps_pd(_mm512_permutex2var_ps(in[2].v, low, in[3].v));
  const __m512d c = _mm512_castps_pd(_mm512_permutex2var_ps(in[0].v, high, in[1].v));
  const __m512d d = _mm512_castps_pd(_mm512_permutex2var_ps(in[2].v, high, in[3].v));
  out[0] = {_mm512_castpd_ps(_mm512_permutex2var_pd(a, first, b))};
  out[1] = {_mm512_castpd_ps(_mm512_permutex2var_pd(a, second, b))};
  out[2] = {_mm512_castpd_ps(_mm512_permutex2var_pd(c, first, d))};
  out[3] = {_mm512_castpd_ps(_mm512_permutex2var_pd(c, second, d))};
}

struct Cells {
  static constexpr int kSize = 16;
  __m512i v;
};

inline Cells load(const Cell* p) { return {_mm512_loadu_si512(p)}; }
inline void store(Cell* p, Cells x) { _mm512_storeu_si512(p, x.v); }
inline Cells broadcast_cell(Cell x) { return {_mm512_set1_epi32(x)}; }
inline Cells add16(Cells a, Cells b) { return {_mm512_add_epi16(a.v, b.v)}; }
inline Cells sub16(Cells a, Cells b) { return {_mm512_sub_epi16(a.v, b.v)}; }
inline Cells quadruple16(Cells a) { return {_mm512_slli_epi16(a.v, 2)}; }
inline Cells shift_up(Cells x, Cell edge) { return {_mm512_alignr_epi32(x.v, _mm512_set1_epi32(edge), 15)}; }
inline Cells shift_down(Cells x, Cell edge) { return {_mm512_alignr_epi32(_mm512_set1_epi32(edge), x.v, 1)}; }
inline Cells dot(Cells a, Cells b, Cells sum) { return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))}; }
// The same by AVX-512 VNNI. In assembly, so that this file needs no option for it, and GCC 12 makes no copies of `sum`.
inline Cells dot_vnni(Cells a, Cells b, Cells sum) {
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
// The same with one cell of memory for all of `a`.
inline Cells dot_vnni_all(const Cell* a, Cells b, Cells sum) {
  __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(b.v), "m"(*a));
  return sum;
}
inline Vec as_floats(Cells x) { return {_mm512_castsi512_ps(x.v)}; }
inline Cells as_cells(Vec x) { return {_mm512_castps_si512(x.v)}; }
inline Vec bf16_even(Cells x) { return {_mm512_castsi512_ps(_mm512_slli_epi32(x.v, 16))}; }
inline Vec bf16_odd(Cells x) {
  return {_mm512_castsi512_ps(_mm512_and_si512(x.v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
inline __m512i round_bf16(Vec x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}
inline Cells join_bf16(Vec even, Vec odd) {
  return {_mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(round_bf16(even), 16), round_bf16(odd))};
}
// sum + odd a * odd b + even a * even b, by AVX-512 BF16. In assembly for the reasons of dot_vnni.
inline Vec dot_bf16(Cells a, Cells b, Vec sum) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
inline Cells join_even(Cells a, Cells b) {
  return {_mm512_mask_blend_epi16(0xAAAAAAAA, a.v, _mm512_slli_epi32(b.v, 16))};
}
inline Cells join_odd(Cells a, Cells b) {
  return {_mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(a.v, 16), b.v)};
}
inline Vec to_floats(Cells x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline Cells even_halves(Cells x) { return {_mm512_srai_epi32(_mm512_slli_epi32(x.v, 16), 16)}; }
inline Cells odd_halves(Cells x) { return {_mm512_srai_epi32(x.v, 16)}; }
inline Cells max32(Cells a, Cells b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline Cells min32(Cells a, Cells b) { return {_mm512_min_epi32(a.v, b.v)}; }

}  // namespace
