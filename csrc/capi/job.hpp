// What whole images and streams have in common: a network of the model, and options that are possible.
#pragma once

#include <cstdint>

#include "capi/handles.hpp"

namespace fastsr::capi {

struct Job {
  fsr_options options = FSR_OPTIONS_INIT;
  Network* network = nullptr;
  Mapping mapping;

  int threads() const { return static_cast<int>(options.threads); }
  // All of a plan but memory, strip and latency.
  fsr_plan plan() const;
};

Status read_job(fsr_model& model, const fsr_options* options, PixelType type, int channels, Job& job);

}  // namespace fastsr::capi
