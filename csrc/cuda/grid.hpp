// Two ways to run a kernel: a function of an index, and a block of threads that work together. On a GPU they are
// launched; emulated, the same source runs on the CPU, thread by thread.
#pragma once

#include <cstdint>

#include "core/status.hpp"
#include "cuda/portable.hpp"

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include <string>
#else
#include "cuda/emulated/block.hpp"
#include "cuda/emulated/queue.hpp"
#endif

namespace fastsr::cuda {

constexpr int kThreads = 256;         // of a launch by index
constexpr int kItemBlocks = 2;        // of those on a multiprocessor at least: 128 registers a thread
constexpr int kMostGridRows = 65535;  // a grid's limit

struct Grid {
  int x = 1;
  int y = 1;
  int z = 1;
};

#if defined(__CUDACC__)

// A thread of a block, as kernels see it.
class Thread {
 public:
  __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int block_x() const { return static_cast<int>(blockIdx.x); }
  __device__ __forceinline__ int block_y() const { return static_cast<int>(blockIdx.y); }
  __device__ __forceinline__ int block_z() const { return static_cast<int>(blockIdx.z); }
  __device__ __forceinline__ unsigned char* shared() const {
    extern __shared__ uint4 fastsr_shared[];
    return reinterpret_cast<unsigned char*>(fastsr_shared);
  }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  __device__ __forceinline__ void sync_warp() const { __syncwarp(); }

  // Begin to copy 16 bytes into shared memory; zeros where `from` is nullptr.
  __device__ __forceinline__ void copy16(unsigned char* to, const void* from) const {
    if (from == nullptr) {
      *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
      return;
    }
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  }
  // Wait for this thread's copies.
  __device__ __forceinline__ void copied() const { asm volatile("cp.async.wait_all;" ::: "memory"); }

  // Four 8x8 matrices of 16-bit numbers: lane i gives the address of row i % 8 of matrix i / 8.
  __device__ __forceinline__ void load_matrices(const unsigned char* row, std::uint32_t (&r)[4]) const {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }

  // d (16 x 8, fp32) += a (16 x 16, fp16) b (16 x 8, fp16), in the fragments of mma.m16n8k16.
  __device__ __forceinline__ void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }
};

template <class F>
__global__ void __launch_bounds__(kThreads, kItemBlocks) run_items(F f, int rows, int items) {
  const int item = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (item >= items) return;
  for (int row = static_cast<int>(blockIdx.y); row < rows; row += static_cast<int>(gridDim.y)) f(row, item);
}

template <int Threads, int BlocksPerProcessor, class F>
__global__ void __launch_bounds__(Threads, BlocksPerProcessor) run_blocks(F f) {
  Thread thread;
  f(thread);
}

inline Status launched() {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return {};
  return {Code::internal, std::string("CUDA could not launch a kernel: ") + cudaGetErrorString(error)};
}

// f(row, item) for all 0 <= row < rows, 0 <= item < items.
template <class F>
Status launch_items(Stream stream, int rows, int items, const F& f) {
  const dim3 grid(static_cast<unsigned>((items + kThreads - 1) / kThreads),
                  static_cast<unsigned>(smaller(rows, kMostGridRows)));
  run_items<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(f, rows, items);
  return launched();
}

// f(thread) for each of Threads threads of each block.
template <int Threads, int BlocksPerProcessor, class F>
Status launch_blocks(Stream stream, Grid grid, int shared_bytes, const F& f) {
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
  run_blocks<Threads, BlocksPerProcessor>
      <<<blocks, Threads, static_cast<std::size_t>(shared_bytes), static_cast<cudaStream_t>(stream)>>>(f);
  return launched();
}

#else

template <class F>
Status launch_items(Stream stream, int rows, int items, const F& f) {
  emulated::enqueue(stream, [=] {
    for (int row = 0; row < rows; ++row) {
      for (int item = 0; item < items; ++item) f(row, item);
    }
  });
  return {};
}

template <int Threads, int, class F>
Status launch_blocks(Stream stream, Grid grid, int shared_bytes, const F& f) {
  emulated::enqueue(stream, [=] {
    emulated::Block block(Threads, shared_bytes);
    for (int z = 0; z < grid.z; ++z) {
      for (int y = 0; y < grid.y; ++y) {
        for (int x = 0; x < grid.x; ++x) {
          block.run(x, y, z, [](const void* kernel, Thread& t) { (*static_cast<const F*>(kernel))(t); }, &f);
        }
      }
    }
  });
  return {};
}

#endif

}  // namespace fastsr::cuda
