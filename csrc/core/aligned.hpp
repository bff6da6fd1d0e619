// Memory aligned to a cache line, of a size that is set once. Large blocks come from the system and go back to it
// at once: the C library would keep them, and a budget on memory would not hold. An embedder may bring its own source.
#pragma once

#include <cstddef>
#include <utility>

namespace fastsr {

constexpr std::size_t kCacheLine = 64;

// Where blocks come from and go back to. Outlives its blocks; its functions may be called by any thread.
struct BlockSource {
  void* (*allocate)(void* user, std::size_t bytes, std::size_t alignment);  // nullptr: there is no memory
  void (*release)(void* user, void* block, std::size_t bytes);
  void* user;
};

// While it lives, the blocks that this thread allocates come from `source`; nullptr: from the system.
// Ambient, so that what is between an embedder's call and its blocks need not hand the source down.
class BlockSourceScope {
 public:
  explicit BlockSourceScope(const BlockSource* source);
  ~BlockSourceScope();
  BlockSourceScope(const BlockSourceScope&) = delete;
  BlockSourceScope& operator=(const BlockSourceScope&) = delete;

 private:
  const BlockSource* before_;
};

class AlignedFloats {
 public:
  AlignedFloats() = default;
  AlignedFloats(AlignedFloats&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), source_(other.source_) {}
  AlignedFloats& operator=(AlignedFloats&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(source_, other.source_);
    return *this;
  }
  AlignedFloats(const AlignedFloats&) = delete;
  AlignedFloats& operator=(const AlignedFloats&) = delete;
  ~AlignedFloats() { release(); }

  // Get `count` floats, contents undefined. Returns false when there is no memory for them.
  bool allocate(std::size_t count);

  float* data() { return data_; }
  const float* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void release();

  float* data_ = nullptr;
  std::size_t size_ = 0;
  const BlockSource* source_ = nullptr;
};

}  // namespace fastsr
