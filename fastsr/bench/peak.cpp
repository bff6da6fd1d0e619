// What this processor does at most, on N threads together: rates that no kernel can pass.
//
//   peak N          prints lines "name value": fma_* GFLOP/s and int8_* GOP/s in registers, a multiply-add counting
//                   two; read_* GB/s from a level of the memory, each thread from memory of its own
//   peak N compute  without the reads
#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace {

constexpr int kChains = 12;  // more than latency times ports, fewer than registers
constexpr long kRounds = 5000000;
constexpr int kRepeats = 5;
constexpr std::size_t kReadBytes = std::size_t{1} << 30;  // by each thread, of one level
volatile float sink;

double seconds_of(int threads, const std::function<void(int)>& work) {
  double best = 1e30;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int t = 1; t < threads; ++t) workers.emplace_back(work, t);
    work(0);
    for (std::thread& worker : workers) worker.join();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct Vec256 {
  typedef float Type __attribute__((vector_size(32)));
};
struct Vec512 {
  typedef float Type __attribute__((vector_size(64)));
};

// The bodies are inlined into functions of one ISA level each, which turn them into its instructions.
template <class V>
[[gnu::always_inline]] inline void fma_body() {
  using Vec = typename V::Type;
  Vec acc[kChains], a, b, sum;
  for (std::size_t i = 0; i < sizeof(Vec) / 4; ++i) a[i] = 0.999f, b[i] = 0.001f, sum[i] = 0;
  for (int i = 0; i < kChains; ++i) acc[i] = b * static_cast<float>(i);
  for (long r = 0; r < kRounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * a + b;
  }
  for (int i = 0; i < kChains; ++i) sum += acc[i];
  sink = sum[0];
}

template <class V>
[[gnu::always_inline]] inline void read_body(const float* x, std::size_t bytes) {
  using Vec = typename V::Type;
  constexpr std::size_t kStep = 8;
  const Vec* v = reinterpret_cast<const Vec*>(x);
  const std::size_t count = bytes / sizeof(Vec) / kStep * kStep;
  Vec acc[kStep] = {};
  for (std::size_t done = 0; done < kReadBytes; done += bytes) {
    for (std::size_t i = 0; i < count; i += kStep) {
#pragma GCC unroll 8
      for (std::size_t k = 0; k < kStep; ++k) acc[k] += v[i + k];
    }
  }
  for (std::size_t k = 1; k < kStep; ++k) acc[0] += acc[k];
  sink = acc[0][0];
}

__attribute__((target("avx2,fma"))) void fma_avx2() { fma_body<Vec256>(); }
__attribute__((target("avx2,fma"))) void read_avx2(const float* x, std::size_t bytes) { read_body<Vec256>(x, bytes); }
__attribute__((target("avx512f"))) void fma_avx512() { fma_body<Vec512>(); }
__attribute__((target("avx512f"))) void read_avx512(const float* x, std::size_t bytes) { read_body<Vec512>(x, bytes); }

__attribute__((target("avx512f,avx512vnni"))) void int8_avx512_vnni() {
  __m512i acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
  for (long r = 0; r < kRounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
  }
  __m512i sum = acc[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_epi32(sum, acc[i]);
  int out[16];
  _mm512_storeu_si512(out, sum);
  sink = static_cast<float>(out[0]);
}

void print_rate(const char* name, int threads, double operations, void (*work)()) {
  const double seconds = seconds_of(threads, [work](int) { work(); });
  std::printf("%s %.1f\n", name, operations * kChains * kRounds * threads / seconds / 1e9);
}

std::size_t cache_bytes(int level, std::size_t otherwise) {
#ifdef _SC_LEVEL1_DCACHE_SIZE
  const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
  const long bytes = sysconf(names[level - 1]);
  if (bytes > 0) return static_cast<std::size_t>(bytes);
#endif
  (void)level;
  return otherwise;
}

void print_reads(int threads, bool avx512) {
  const auto n = static_cast<std::size_t>(threads);
  const std::size_t l3 = cache_bytes(3, 32 << 20);
  const struct {
    const char* name;
    std::size_t bytes;  // of each thread
  } levels[] = {{"read_l1", cache_bytes(1, 32 << 10) / 2},
                {"read_l2", cache_bytes(2, 1 << 20) / 2},
                {"read_l3", l3 / 2 / n},
                {"read_memory", std::max<std::size_t>(4 * l3, 256 << 20) / n}};
  for (const auto& level : levels) {
    const std::size_t bytes = level.bytes / 4096 * 4096;
    std::vector<float*> memory(n);
    for (float*& x : memory) {
      x = static_cast<float*>(std::aligned_alloc(4096, bytes));
      std::fill(x, x + bytes / 4, 1.0f);
    }
    const double seconds = seconds_of(
        threads, [&](int t) { (avx512 ? read_avx512 : read_avx2)(memory[static_cast<std::size_t>(t)], bytes); });
    const double read = static_cast<double>((kReadBytes + bytes - 1) / bytes * bytes * n);
    std::printf("%s %.1f\n", level.name, read / seconds / 1e9);
    for (float* x : memory) std::free(x);
  }
}

}  // namespace

int main(int count, char** words) {
  const int threads = count > 1 ? std::atoi(words[1]) : 1;
  if (threads < 1 || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 1;
  const bool avx512 = __builtin_cpu_supports("avx512f");
  print_rate("fma_avx2", threads, 2 * 8, fma_avx2);
  if (avx512) print_rate("fma_avx512", threads, 2 * 16, fma_avx512);
  if (__builtin_cpu_supports("avx512vnni")) print_rate("int8_avx512_vnni", threads, 2 * 64, int8_avx512_vnni);
  if (count < 3) print_reads(threads, avx512);
}
