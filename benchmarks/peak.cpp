// The rate of fused multiply-adds in registers, GFLOP/s, on N threads together: what no kernel can pass.
#include <immintrin.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
using Vec = __m512;
constexpr int kFloats = 16;
inline Vec set(float x) { return _mm512_set1_ps(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
#else
using Vec = __m256;
constexpr int kFloats = 8;
inline Vec set(float x) { return _mm256_set1_ps(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
#endif

constexpr int kChains = 12;
constexpr long kRounds = 20000000;
volatile float sink;

void work() {
  Vec acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = set(static_cast<float>(i));
  const Vec a = set(0.999f), b = set(0.001f);
  for (long r = 0; r < kRounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], a, b);
  }
  Vec sum = set(0);
  for (int i = 0; i < kChains; ++i) sum = fma(acc[i], a, sum);
  float out[kFloats];
  __builtin_memcpy(out, &sum, sizeof out);
  sink = out[0];
}

}  // namespace

int main(int, char** argv) {
  const int threads = std::atoi(argv[1]);
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int t = 1; t < threads; ++t) workers.emplace_back(work);
    work();
    for (std::thread& worker : workers) worker.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double rate = 2.0 * kChains * kRounds * kFloats * threads / seconds / 1e9;
    if (rate > best) best = rate;
  }
  std::printf("%.1f\n", best);
}
