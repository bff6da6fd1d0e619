// What one call will do on the device: which rows are made when, where each of them lies, and how much memory it takes.
// The order is that of the CPU engine's stream (runtime/plan.hpp): a strip of rows enters, every stage makes the rows
// that have become possible, and rows that nobody reads any more give their memory back.
#pragma once

#include <cstdint>
#include <vector>

#include "core/image.hpp"
#include "core/status.hpp"
#include "cuda/kernels.hpp"
#include "runtime/plan.hpp"

namespace fastsr::cuda {

// Rows of equal channels and scale share a pool.
struct Pool {
  int pitch = 0;  // channels of a pixel with their padding
  std::int64_t columns = 0;
  int slots = 0;           // rows alive at once
  std::size_t offset = 0;  // of the pool, in bytes
  std::int64_t elements() const { return columns * pitch; }
};

// A run of rows of the image. Its tables live on the device, so that tall images are cut into several.
struct Band {
  Range rows;                                    // wanted, of the image
  std::vector<Range> needed;                     // rows of each value
  std::vector<std::vector<std::int32_t>> slots;  // of each value: where each needed row lies
};

struct Plan {
  std::int64_t height = 0;  // of the whole image
  std::int64_t width = 0;
  Box box;
  int strip = 0;
  std::int64_t panels = 1;
  std::vector<Range> bands;  // rows of the image
  std::vector<Pool> pools;
  std::vector<std::size_t> table_offset;  // of each value, in bytes
  std::size_t in_offset[2] = {};          // strips of pixels on the device; none where the caller's are there already
  std::size_t out_offset[2] = {};
  std::size_t in_bytes = 0;
  std::size_t out_bytes = 0;
  std::size_t flags_offset = 0;
  std::size_t device_bytes = 0;
  std::size_t pinned_bytes = 0;
  std::uint64_t memory = 0;  // device_bytes and pinned_bytes, and what the caller said it needs

  Range panel(std::int64_t index) const {
    const Range all = box.columns;
    return {all.begin + all.size() * index / panels, all.begin + all.size() * (index + 1) / panels};
  }
};

struct Limits {
  Precision precision = Precision::fp32;
  std::uint64_t max_memory = 0;  // 0: what is sensible
  int strip = 0;                 // 0: the planner chooses
  bool panels = true;
  bool staged = true;                 // pixels are copied from and to the host
  std::size_t pixel_bytes = 1;        // of one channel
  std::uint64_t staging_per_row = 0;  // bytes that the caller's own buffers take for each row of a strip
};

// The schedule of one band: where every row lies, and how many rows each pool needs.
Band make_band(const Pipeline& pipeline, std::int64_t height, Range rows, int strip, std::vector<int>& pool_slots);

// Fails with Code::memory_budget, and the least that would do, when nothing fits.
Result<Plan> make_plan(const Pipeline& pipeline, std::int64_t height, std::int64_t width, Box box,
                       const Limits& limits);

}  // namespace fastsr::cuda
