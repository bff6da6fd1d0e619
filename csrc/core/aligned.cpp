#include "core/aligned.hpp"

#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define FASTSR_HAS_MMAP 1
#endif

namespace fastsr {
namespace {

thread_local const BlockSource* current_source = nullptr;

constexpr std::size_t kMapped = std::size_t{1} << 17;  // bytes

void* system_block(std::size_t bytes) {
#if defined(FASTSR_HAS_MMAP)
  if (bytes >= kMapped) {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? nullptr : block;
  }
#endif
  return ::operator new(bytes, std::align_val_t{kCacheLine}, std::nothrow);
}

void release_system_block(void* block, std::size_t bytes) {
#if defined(FASTSR_HAS_MMAP)
  if (bytes >= kMapped) {
    munmap(block, bytes);
    return;
  }
#endif
  ::operator delete(block, std::align_val_t{kCacheLine});
}

}  // namespace

BlockSourceScope::BlockSourceScope(const BlockSource* source) : before_(current_source) { current_source = source; }
BlockSourceScope::~BlockSourceScope() { current_source = before_; }

bool AlignedFloats::allocate(std::size_t count) {
  release();
  if (count == 0) return true;
  const std::size_t bytes = count * sizeof(float);
  source_ = current_source;
  data_ = static_cast<float*>(source_ ? source_->allocate(source_->user, bytes, kCacheLine) : system_block(bytes));
  size_ = data_ ? count : 0;
  return data_ != nullptr;
}

void AlignedFloats::release() {
  if (!data_) return;
  if (source_) {
    source_->release(source_->user, data_, size_ * sizeof(float));
  } else {
    release_system_block(data_, size_ * sizeof(float));
  }
  data_ = nullptr;
  size_ = 0;
}

}  // namespace fastsr
