// Memory aligned to a cache line, of a size that is set once. Large blocks come from the system and go back to it
// at once: the C library would keep them, and a budget on memory would not hold.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define FASTSR_HAS_MMAP 1
#endif

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
#if defined(FASTSR_HAS_MMAP)
    if (count >= kMapped) {
      void* block = mmap(nullptr, count * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (block == MAP_FAILED) return false;
      data_ = static_cast<float*>(block);
      size_ = count;
      return true;
    }
#endif
    data_ = static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{kCacheLine}, std::nothrow));
    size_ = data_ ? count : 0;
    return data_ != nullptr;
  }

  float* data() { return data_; }
  const float* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kMapped = std::size_t{1} << 15;  // floats

  void release() {
#if defined(FASTSR_HAS_MMAP)
    if (size_ >= kMapped) {
      munmap(data_, size_ * sizeof(float));
      data_ = nullptr;
    }
#endif
    if (data_) ::operator delete(data_, std::align_val_t{kCacheLine});
    data_ = nullptr;
    size_ = 0;
  }

  float* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fastsr
