// A block of GPU threads on one CPU thread: each is a fiber that runs until it waits for others. This lets kernels that
// share memory, wait for one another and multiply matrices by warps run as they are written.
#pragma once

#include <cstdint>
#include <memory>

namespace fastsr::cuda {

namespace emulated {
class Block;
}

// A thread of a block, as kernels see it; the twin of that in cuda/grid.hpp.
class Thread {
 public:
  int index() const { return index_; }
  int block_x() const;
  int block_y() const;
  int block_z() const;
  unsigned char* shared() const;
  void sync();
  void sync_warp();
  void copy16(unsigned char* to, const void* from) const;
  void copied() const;
  void load_matrices(const unsigned char* row, std::uint32_t (&r)[4]);
  void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

 private:
  friend class emulated::Block;
  emulated::Block* block_ = nullptr;
  int index_ = 0;
};

namespace emulated {

class Block {
 public:
  using Function = void (*)(const void* kernel, Thread& thread);

  Block(int threads, int shared_bytes);
  ~Block();
  // Run function(kernel, thread) on each thread. Shared memory holds NaN at the start.
  void run(int x, int y, int z, Function function, const void* kernel);

 private:
  friend class ::fastsr::cuda::Thread;
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace emulated
}  // namespace fastsr::cuda
