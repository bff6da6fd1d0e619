// Memory, queues and events of the GPU; its owners give back what they hold. Two implementations: the CUDA runtime
// (device_cuda.cpp), and the CPU in a GPU's place (emulated/device.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/status.hpp"
#include "cuda/portable.hpp"

namespace fastsr::cuda {

using Event = void*;

// Empty where a GPU can be used; else why not: no driver, or no GPU.
std::string why_no_device();
// "NVIDIA H100 80GB HBM3, compute capability 9.0".
std::string device_name();

struct MemoryInfo {
  std::uint64_t free = 0;
  std::uint64_t total = 0;
};
Result<MemoryInfo> memory_info();

// The calling thread's device.
Result<int> current_device();
Status use_device(int device);

// While it lives, the thread works on this device.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  const Status& status() const { return status_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  Status status_;
};

enum class Place { device, pinned };

// A block of the device's memory, or of the host's that the device copies from and to by itself.
class Block {
 public:
  Block() = default;
  Block(Block&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), place_(other.place_) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(place_, other.place_);
    return *this;
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block();

  // Fails with Code::out_of_memory.
  static Result<Block> make(Place place, std::size_t bytes);
  unsigned char* data() const { return static_cast<unsigned char*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Place place_ = Place::device;
};

class OwnStream {
 public:
  OwnStream() = default;
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  Status make();
  Stream get() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

class OwnEvent {
 public:
  OwnEvent() = default;
  ~OwnEvent();
  OwnEvent(const OwnEvent&) = delete;
  OwnEvent& operator=(const OwnEvent&) = delete;
  Status make();
  Event get() const { return event_; }

 private:
  Event event_ = nullptr;
};

// All of these are put on the stream, and happen later. Host memory must be pinned for copies not to wait.
Status copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream);
Status copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream);
Status clear(void* at, std::size_t bytes, Stream stream);
Status record(Event event, Stream stream);
Status wait_on_stream(Stream stream, Event event);  // the stream waits, not the caller

Status wait_for(Event event);
Status wait_for_stream(Stream stream);

}  // namespace fastsr::cuda
