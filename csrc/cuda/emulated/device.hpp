// What tests set and ask of the emulated GPU.
#pragma once

#include <cstdint>

namespace fastsr::cuda::emulated {

// Allocations beyond this many bytes of device memory fail.
void set_device_memory(std::uint64_t bytes);
// Bytes that are allocated now, and were at most since the last call of reset_peak().
std::uint64_t allocated();
std::uint64_t peak();
void reset_peak();
// Bytes of pinned memory that are allocated now.
std::uint64_t pinned();

}  // namespace fastsr::cuda::emulated
