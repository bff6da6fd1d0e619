// What the processor says of its caches.
#pragma once

#include <cstdint>

namespace fastsr {

// Bytes of the largest cache; a common size where the processor does not tell.
std::uint64_t largest_cache();

}  // namespace fastsr
