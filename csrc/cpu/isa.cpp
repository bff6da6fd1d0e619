#include "cpu/isa.hpp"

#include <cstdlib>

namespace fastsr {

const std::vector<IsaLevel>& isa_levels() {
  static const std::vector<IsaLevel> levels = [] {
    std::vector<IsaLevel> list{{&kScalar, true}};
#if defined(FASTSR_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    list.push_back({&kAvx2, avx2});
    list.push_back({&kAvx512, avx2 && __builtin_cpu_supports("avx512f")});
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
