#include "core/thread_pool.hpp"

#include <algorithm>
#include <chrono>
#include <exception>

#include "core/float_mode.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastsr {
namespace {

// A step of a network lasts some 100 us, and so does the longest wait for another thread's last piece of it: staying
// awake bridges that, since a thread that sleeps is woken late. What lasts longer (the caller's own work between calls)
// is slept through. After the first moment, whatever else wants the core may have it: often the thread that is waited
// for.
constexpr std::chrono::microseconds kWait{500};
constexpr int kSpins = 256;

inline void pause_a_moment() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#endif
}

// Stay awake until done() or, where there is a limit, for about kWait.
template <class Done>
void wait_until(Done done, bool limited) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return;
    pause_a_moment();
  }
  const auto end = std::chrono::steady_clock::now() + kWait;
  while (!done() && !(limited && std::chrono::steady_clock::now() > end)) std::this_thread::yield();
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  workers_.reserve(static_cast<std::size_t>(std::max(threads - 1, 0)));
  for (int t = 1; t < threads; ++t) {
    try {
      workers_.emplace_back([this, t] { work(t); });
    } catch (const std::exception&) {
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Job job, void* context) {
  if (workers_.empty()) {
    job(context, 0);
    return;
  }
  job_ = job;
  context_ = context;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  bool anyone_asleep;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    epoch_.fetch_add(1, std::memory_order_release);
    anyone_asleep = sleeping_ > 0;
  }
  if (anyone_asleep) wake_.notify_all();
  job(context, 0);
  wait_until([&] { return running_.load(std::memory_order_acquire) == 0; }, false);
}

void ThreadPool::work(int thread) {
  const DefinedFloatMode mode;  // a new thread inherits its maker's
  std::uint64_t seen = 0;
  for (;;) {
    wait_until([&] { return epoch_.load(std::memory_order_acquire) != seen; }, true);
    if (epoch_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++sleeping_;
      wake_.wait(lock, [&] { return epoch_.load(std::memory_order_acquire) != seen; });
      --sleeping_;
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    job_(context_, thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

int default_threads() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace fastsr
