#include "cpu/isa.hpp"

#include <cstdlib>

#if defined(FASTSR_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace fastsr {

#if defined(FASTSR_X86)
namespace {

enum class Register { eax, ebx, ecx, edx };

// What compilers' own probes do not all know: a bit of CPUID.
bool has(unsigned leaf, unsigned subleaf, Register where, int bit) {
  unsigned r[4] = {};
  return __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]) != 0 &&
         (r[static_cast<int>(where)] >> bit & 1u) != 0;
}

// Whether tiles of bf16 are there, and the system keeps them when it switches threads (bits 17 and 18 of XCR0).
bool has_amx() {
  if (!has(7, 0, Register::edx, 22) || !has(7, 0, Register::edx, 24)) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3u) == 3;
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
    list.push_back({&kAvx2Vnni, avx2 && has(7, 1, Register::eax, 4)});
    list.push_back({&kAvx512, avx512});
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    const bool bf16 = vnni && has(7, 1, Register::eax, 5);
    list.push_back({&kAvx512Vnni, vnni});
    list.push_back({&kAvx512Bf16, bf16});
    list.push_back({&kAmxBf16, bf16 && has_amx()});
#endif
    return list;
  }();
  return levels;
}

bool may_use_tiles() {
#if defined(FASTSR_X86) && defined(__linux__) && defined(__x86_64__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, the state's component
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
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
