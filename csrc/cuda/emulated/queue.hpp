// Streams and events of the emulated GPU. Work on a stream is put off: it happens when somebody waits for it, or, where
// schedule() was given a seed, at random moments before that, streams overtaking one another as they may. A wait that
// was forgotten then shows in the result.
#pragma once

#include <functional>

#include "cuda/device.hpp"

namespace fastsr::cuda::emulated {

// 0: work happens as late as it can; else at moments drawn with this seed.
void schedule(unsigned seed);

void* new_handle();
void forget_stream(Stream stream);
void enqueue(Stream stream, std::function<void()> work);
void enqueue_record(Stream stream, Event event);
void enqueue_wait(Stream stream, Event event);
// Do what is on the stream, or what the event stands behind, and what that waits for.
void run_stream(Stream stream);
void run_event(Event event);
void run_all();

}  // namespace fastsr::cuda::emulated
