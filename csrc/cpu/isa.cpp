#include "cpu/isa.hpp"

#include <cstdlib>

#if defined(FASTSR_X86)
#include <cpuid.h>
#endif

namespace fastsr {

#if defined(FASTSR_X86)
namespace {

// AVX-VNNI, which is VNNI without AVX-512 (leaf 7.1, EAX bit 4); compilers' own probes do not all know it.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}

}  // namespace
#endif

const std::vector<IsaLevel>& isa_levels() {
  static const std::vector<IsaLevel> levels = [] {
    std::vector<IsaLevel> list{{&kScalar, true}};
#if defined(FASTSR_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    list.push_back({&kAvx2, avx2});
    list.push_back({&kAvx2Vnni, avx2 && has_avx_vnni()});
    list.push_back({&kAvx512, avx512});
    list.push_back({&kAvx512Vnni, avx512 && __builtin_cpu_supports("avx512vnni")});
#endif
    return list;
  }();
  return levels;
}

Result<const Kernels*> select_isa(const std::string& name) {
  std::string wanted = name;
  if (wanted.empty()) {
    const char* forced = std::getenv("FASTSR_ISA");
    if (forced) wanted = forced;
  }
  const Kernels* best = nullptr;
  std::string usable;
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    if (wanted == level.kernels->name) return level.kernels;
    best = level.kernels;
    usable += (usable.empty() ? "" : ", ") + std::string(level.kernels->name);
  }
  if (wanted.empty()) return best;
  return Status(Code::option, "the ISA level '" + wanted + "' cannot run here; usable: " + usable);
}

}  // namespace fastsr
