#include "cuda/emulated/queue.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <random>

namespace fastsr::cuda::emulated {
namespace {

// One of: work; an event that happens; an event whose `count`th record has to happen first.
struct Operation {
  std::function<void()> work;
  Event record = nullptr;
  Event wait = nullptr;
  std::uint64_t count = 0;
};

struct EventState {
  Stream stream = nullptr;     // on which it was recorded last
  std::uint64_t recorded = 0;  // times that it was put on a stream
  std::uint64_t happened = 0;
};

std::recursive_mutex mutex;  // guards all of the following, and is held while work is done
std::map<Stream, std::deque<Operation>> streams;
std::map<Event, EventState> events;
std::mt19937 random_number;
bool at_random = false;
std::uintptr_t handles = 0;

// Do the stream's first operation; false: it waits for an event, or the stream is empty.
bool step(Stream stream) {
  std::deque<Operation>& queue = streams[stream];
  if (queue.empty()) return false;
  if (queue.front().wait != nullptr && events[queue.front().wait].happened < queue.front().count) return false;
  const Operation operation = std::move(queue.front());
  queue.pop_front();
  if (operation.work) operation.work();
  if (operation.record != nullptr) ++events[operation.record].happened;
  return true;
}

void run_until(Event event, std::uint64_t count);

void advance(Stream stream) {
  if (step(stream)) return;
  const Operation& first = streams[stream].front();
  run_until(first.wait, first.count);
}

void run_until(Event event, std::uint64_t count) {
  while (events[event].happened < count) advance(events[event].stream);
}

void put(Stream stream, Operation operation) {
  streams[stream].push_back(std::move(operation));
  if (!at_random) return;
  for (unsigned steps = random_number() % 4; steps > 0; --steps) {
    auto chosen = streams.begin();
    std::advance(chosen, random_number() % streams.size());
    while (step(chosen->first) && random_number() % 4 != 0) {
    }
  }
}

}  // namespace

void schedule(unsigned seed) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  at_random = seed != 0;
  random_number.seed(seed);
}

void* new_handle() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return reinterpret_cast<void*>(handles += 16);
}

void forget_stream(Stream stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  run_stream(stream);
  streams.erase(stream);
}

void enqueue(Stream stream, std::function<void()> work) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  Operation operation;
  operation.work = std::move(work);
  put(stream, std::move(operation));
}

void enqueue_record(Stream stream, Event event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  EventState& state = events[event];
  state.stream = stream;
  ++state.recorded;
  Operation operation;
  operation.record = event;
  put(stream, std::move(operation));
}

void enqueue_wait(Stream stream, Event event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (events[event].recorded == 0) return;
  Operation operation;
  operation.wait = event;
  operation.count = events[event].recorded;
  put(stream, std::move(operation));
}

void run_stream(Stream stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  while (!streams[stream].empty()) advance(stream);
}

void run_event(Event event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  run_until(event, events[event].recorded);
}

void run_all() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  for (bool busy = true; busy;) {
    busy = false;
    for (auto& entry : streams) {
      if (entry.second.empty()) continue;
      run_stream(entry.first);
      busy = true;
    }
  }
}

}  // namespace fastsr::cuda::emulated
