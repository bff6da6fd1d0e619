// The floating-point mode that results are defined in: rounding to nearest, subnormal numbers kept. Other libraries in
// the process may have set the caller's thread to flush them to zero; its pieces would then differ from the workers'.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastsr {

class DefinedFloatMode {
 public:
#if defined(__x86_64__) || defined(_M_X64)
  DefinedFloatMode() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefinedFloatMode() { _mm_setcsr(before_); }

 private:
  unsigned before_;

 public:
#endif
  DefinedFloatMode(const DefinedFloatMode&) = delete;
  DefinedFloatMode& operator=(const DefinedFloatMode&) = delete;
};

}  // namespace fastsr
