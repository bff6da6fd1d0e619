#include "capi/report.hpp"

#include <cstring>

namespace fastsr::capi {
namespace {

thread_local char last_message[1024] = "";

fsr_status status_of(Code code) {
  switch (code) {
    case Code::ok: return FSR_OK;
    case Code::option: return FSR_ERROR_ARGUMENT;
    case Code::shape: return FSR_ERROR_SHAPE;
    case Code::pixel_value: return FSR_ERROR_PIXEL_VALUE;
    case Code::memory_budget: return FSR_ERROR_MEMORY_BUDGET;
    case Code::model_file: return FSR_ERROR_MODEL;
    case Code::model_integrity: return FSR_ERROR_MODEL_DAMAGED;
    case Code::model_version: return FSR_ERROR_MODEL_VERSION;
    case Code::out_of_memory: return FSR_ERROR_OUT_OF_MEMORY;
    case Code::cancelled: return FSR_ERROR_CANCELLED;
    case Code::sequence: return FSR_ERROR_STATE;
    case Code::file: return FSR_ERROR_FILE;
    case Code::internal: return FSR_ERROR_INTERNAL;
  }
  return FSR_ERROR_INTERNAL;
}

}  // namespace

fsr_status fail(const Log& log, fsr_status status, const char* message) noexcept {
  std::strncpy(last_message, message, sizeof last_message - 1);  // the last byte stays 0
  log.say(FSR_LOG_ERROR, last_message);
  return status;
}

fsr_status fail(const Log& log, const Status& status) noexcept {
  return fail(log, status_of(status.code()), status.message().c_str());
}

}  // namespace fastsr::capi

const char* fsr_error_message(void) { return fastsr::capi::last_message; }

const char* fsr_status_name(fsr_status status) {
  switch (status) {
    case FSR_OK: return "FSR_OK";
    case FSR_ERROR_ARGUMENT: return "FSR_ERROR_ARGUMENT";
    case FSR_ERROR_SHAPE: return "FSR_ERROR_SHAPE";
    case FSR_ERROR_PIXEL_VALUE: return "FSR_ERROR_PIXEL_VALUE";
    case FSR_ERROR_MEMORY_BUDGET: return "FSR_ERROR_MEMORY_BUDGET";
    case FSR_ERROR_OUT_OF_MEMORY: return "FSR_ERROR_OUT_OF_MEMORY";
    case FSR_ERROR_FILE: return "FSR_ERROR_FILE";
    case FSR_ERROR_MODEL: return "FSR_ERROR_MODEL";
    case FSR_ERROR_MODEL_DAMAGED: return "FSR_ERROR_MODEL_DAMAGED";
    case FSR_ERROR_MODEL_VERSION: return "FSR_ERROR_MODEL_VERSION";
    case FSR_ERROR_CANCELLED: return "FSR_ERROR_CANCELLED";
    case FSR_ERROR_STATE: return "FSR_ERROR_STATE";
    case FSR_ERROR_INTERNAL: return "FSR_ERROR_INTERNAL";
  }
  return "unknown";
}
