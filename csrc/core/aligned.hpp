// Memory aligned to a cache line, of a size that is set once.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace fastsr {

constexpr std::size_t kCacheLine = 64;

class AlignedFloats {
 public:
  AlignedFloats() = default;
  AlignedFloats(AlignedFloats&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedFloats& operator=(AlignedFloats&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedFloats(const AlignedFloats&) = delete;
  AlignedFloats& operator=(const AlignedFloats&) = delete;
  ~AlignedFloats() { release(); }

  // Get `count` floats, contents undefined. Returns false when the system has no memory for them.
  bool allocate(std::size_t count) {
    release();
    if (count == 0) return true;
    data_ = static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{kCacheLine}, std::nothrow));
    size_ = data_ ? count : 0;
    return data_ != nullptr;
  }

  float* data() { return data_; }
  const float* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void release() {
    if (data_) ::operator delete(data_, std::align_val_t{kCacheLine});
    data_ = nullptr;
    size_ = 0;
  }

  float* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fastsr
