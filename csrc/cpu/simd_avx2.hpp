// Eight floats: AVX2 with FMA.
#pragma once

#include <immintrin.h>

namespace {

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
inline void interleave(const Vec* in, Vec* out) {
  const __m256 ab0 = _mm256_unpacklo_ps(in[0].v, in[1].v), ab1 = _mm256_unpackhi_ps(in[0].v, in[1].v);
  const __m256 cd0 = _mm256_unpacklo_ps(in[2].v, in[3].v), cd1 = _mm256_unpackhi_ps(in[2].v, in[3].v);
  const __m256 a = low_pairs(ab0, cd0), b = high_pairs(ab0, cd0), c = low_pairs(ab1, cd1), d = high_pairs(ab1, cd1);
  out[0] = {_mm256_permute2f128_ps(a, b, 0x20)};
  out[1] = {_mm256_permute2f128_ps(c, d, 0x20)};
  out[2] = {_mm256_permute2f128_ps(a, b, 0x31)};
  out[3] = {_mm256_permute2f128_ps(c, d, 0x31)};
}

}  // namespace
