// How the C functions fail: a status, words for this thread, a line for the log. Nothing is thrown past here.
#pragma once

#include <exception>
#include <new>

#include "core/status.hpp"
#include "fastsr/fastsr.h"

namespace fastsr::capi {

struct Log {
  fsr_log_function function = nullptr;
  void* user = nullptr;

  void say(fsr_log_level level, const char* message) const {
    if (function) function(user, level, message);
  }
};

// Keep the words for fsr_error_message(), log them, return the status.
fsr_status fail(const Log& log, fsr_status status, const char* message) noexcept;
fsr_status fail(const Log& log, const Status& status) noexcept;

// Run `body`, which returns a Status.
template <class Body>
fsr_status guarded(const Log& log, Body&& body) noexcept {
  try {
    const Status status = body();
    return status.ok() ? FSR_OK : fail(log, status);
  } catch (const std::bad_alloc&) {
    return fail(log, FSR_ERROR_OUT_OF_MEMORY, "the system has no memory");
  } catch (const std::exception& error) {
    return fail(log, FSR_ERROR_INTERNAL, error.what());
  } catch (...) {
    return fail(log, FSR_ERROR_INTERNAL, "an exception of an unknown kind");
  }
}

}  // namespace fastsr::capi
