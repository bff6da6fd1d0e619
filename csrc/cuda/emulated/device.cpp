// The CPU in a GPU's place.
#include "cuda/emulated/device.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/emulated/queue.hpp"

namespace fastsr::cuda {
namespace {

constexpr unsigned char kPoison = 0xff;  // NaN, as fp16 and as fp32

std::atomic<std::uint64_t> limit{std::uint64_t{1} << 40};
std::atomic<std::uint64_t> used{0};
std::atomic<std::uint64_t> most{0};
std::atomic<std::uint64_t> used_pinned{0};
std::mutex pinned_mutex;
std::map<const void*, std::size_t> pinned_blocks;  // guarded by pinned_mutex

bool is_pinned(const void* p) {
  std::lock_guard<std::mutex> lock(pinned_mutex);
  auto after = pinned_blocks.upper_bound(p);
  if (after == pinned_blocks.begin()) return false;
  --after;
  return p < static_cast<const unsigned char*>(after->first) + after->second;
}

}  // namespace

namespace emulated {

void set_device_memory(std::uint64_t bytes) { limit = bytes; }
std::uint64_t allocated() { return used; }
std::uint64_t peak() { return most; }
void reset_peak() { most = used.load(); }
std::uint64_t pinned() { return used_pinned; }

}  // namespace emulated

std::string why_no_device() { return ""; }
std::string device_name() { return "emulated on the CPU"; }
Result<MemoryInfo> memory_info() { return MemoryInfo{limit > used ? limit - used : 0, limit}; }
Result<int> current_device() { return 0; }
Status use_device(int) { return {}; }

Block::~Block() {
  if (data_ == nullptr) return;
  emulated::run_all();  // giving memory back waits for the device
  (place_ == Place::device ? used : used_pinned) -= bytes_;
  if (place_ == Place::pinned) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned_blocks.erase(data_);
  }
  std::free(data_);
}

Result<Block> Block::make(Place place, std::size_t bytes) {
  Block block;
  block.place_ = place;
  const bool fits = place == Place::pinned || used + bytes <= limit;
  block.data_ = fits ? std::malloc(bytes) : nullptr;
  if (block.data_ == nullptr)
    return Status(Code::out_of_memory, "the GPU has no " + std::to_string(bytes) + " bytes free");
  block.bytes_ = bytes;
  std::memset(block.data_, kPoison, bytes);
  (place == Place::device ? used : used_pinned) += bytes;
  if (place == Place::pinned) {
    std::lock_guard<std::mutex> lock(pinned_mutex);
    pinned_blocks[block.data_] = bytes;
  }
  if (used > most) most = used.load();
  return Result<Block>(std::move(block));
}

OwnStream::~OwnStream() {
  if (stream_ != nullptr) emulated::forget_stream(stream_);
}

Status OwnStream::make() {
  stream_ = emulated::new_handle();
  return {};
}

OwnEvent::~OwnEvent() = default;

Status OwnEvent::make() {
  event_ = emulated::new_handle();
  return {};
}

// As in CUDA, what is not pinned is copied before the call returns.
Status copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (is_pinned(from)) {
    emulated::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  } else {
    const auto* begin = static_cast<const unsigned char*>(from);
    emulated::enqueue(stream, [to, data = std::vector<unsigned char>(begin, begin + bytes)] {
      std::memcpy(to, data.data(), data.size());
    });
  }
  return {};
}

Status copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream) {
  emulated::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  if (!is_pinned(to)) emulated::run_stream(stream);
  return {};
}

Status clear(void* at, std::size_t bytes, Stream stream) {
  emulated::enqueue(stream, [=] { std::memset(at, 0, bytes); });
  return {};
}

Status record(Event event, Stream stream) {
  emulated::enqueue_record(stream, event);
  return {};
}

Status wait_on_stream(Stream stream, Event event) {
  emulated::enqueue_wait(stream, event);
  return {};
}

Status wait_for(Event event) {
  emulated::run_event(event);
  return {};
}

Status wait_for_stream(Stream stream) {
  emulated::run_stream(stream);
  return {};
}

}  // namespace fastsr::cuda
