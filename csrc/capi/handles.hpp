// What stands behind the opaque handles.
#pragma once

#include <atomic>
#include <memory>
#include <new>
#include <vector>

#include "capi/arguments.hpp"
#include "capi/report.hpp"
#include "core/aligned.hpp"
#include "cpu/kernels.hpp"
#include "fastsr/fastsr.h"
#include "runtime/model.hpp"
#include "runtime/stream.hpp"

struct fsr_model {
  std::atomic<int> users{1};     // the caller, and each stream
  fastsr::BlockSource source{};  // functions are null: the system
  fastsr::capi::Log log;
  const fastsr::Kernels* kernels = nullptr;
  std::unique_ptr<fastsr::Model> model;
  std::vector<fsr_network> networks;

  const fastsr::BlockSource* blocks() const { return source.allocate ? &source : nullptr; }
};

struct fsr_stream {
  fsr_model* model = nullptr;
  fastsr::capi::Progress progress;
  std::unique_ptr<fastsr::Stream> stream;
};

namespace fastsr::capi {

template <class Handle>
Handle* make_handle(const BlockSource* source) {
  void* block = source ? source->allocate(source->user, sizeof(Handle), kCacheLine)
                       : ::operator new(sizeof(Handle), std::align_val_t{kCacheLine}, std::nothrow);
  return block ? new (block) Handle : nullptr;
}

template <class Handle>
void destroy_handle(Handle* handle, const BlockSource* source) {
  handle->~Handle();
  if (source) {
    source->release(source->user, handle, sizeof(Handle));
  } else {
    ::operator delete(handle, std::align_val_t{kCacheLine});
  }
}

struct DestroyHandle {
  const BlockSource* source;
  template <class Handle>
  void operator()(Handle* handle) const {
    destroy_handle(handle, source);
  }
};

template <class Handle>
using Owned = std::unique_ptr<Handle, DestroyHandle>;

// One user less; the last one closes the model.
void leave(fsr_model* model);

}  // namespace fastsr::capi
