// Threads that do one job at a time together. The caller is thread 0.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace fastsr {

class ThreadPool {
 public:
  using Job = void (*)(void* context, int thread);

  // Starts threads - 1 workers. Where the system gives fewer, works with those.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls job(context, t) once for each thread t, and returns when all have returned. `job` must not throw.
  void run(Job job, void* context);
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

 private:
  void work(int thread);

  std::vector<std::thread> workers_;
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
  Job job_ = nullptr;
  void* context_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  int sleeping_ = 0;  // guarded by mutex_
};

// How many threads this process may use at once.
int default_threads();

}  // namespace fastsr
