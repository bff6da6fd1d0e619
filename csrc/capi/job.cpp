#include "capi/job.hpp"

#include <algorithm>
#include <string>

namespace fastsr::capi {
namespace {

constexpr std::uint32_t kMostThreads = 256;
constexpr std::uint32_t kMostStripRows = 64;
constexpr std::uint32_t kMostScale = 16;  // as in a .fsr file

Status check_most(const char* name, std::uint32_t value, std::uint32_t most) {
  if (value <= most) return {};
  return {Code::option, std::string("options.") + name + " is " + std::to_string(value) + "; 0 to " +
                            std::to_string(most) + " are possible"};
}

// 4, or the largest scale for these channels.
std::uint32_t usual_scale(const fsr_model& model, int channels) {
  std::uint32_t largest = 0;
  for (const fsr_network& network : model.networks) {
    if (network.channels != static_cast<std::uint32_t>(channels)) continue;
    if (network.scale == 4) return 4;
    largest = std::max(largest, network.scale);
  }
  return largest;
}

}  // namespace

fsr_plan Job::plan() const {
  fsr_plan plan = FSR_PLAN_INIT;
  plan.scale = static_cast<std::uint32_t>(network->graph().scale);
  plan.panels = 1;
  plan.halo_rows = static_cast<std::uint32_t>(network->pipeline().halo_rows);
  plan.halo_columns = static_cast<std::uint32_t>(network->pipeline().halo_columns);
  return plan;
}

Status read_job(fsr_model& model, const fsr_options* options, PixelType type, int channels, Job& job) {
  FASTSR_TRY(read_struct(options, "options", job.options));
  FASTSR_TRY(check_most("scale", job.options.scale, kMostScale));
  FASTSR_TRY(check_most("threads", job.options.threads, kMostThreads));
  FASTSR_TRY(check_most("strip_rows", job.options.strip_rows, kMostStripRows));
  FASTSR_TRY(check_most("precision", job.options.precision, FSR_BF16));
  Result<Mapping> mapping = mapping_of(type, job.options.value_low, job.options.value_high);
  if (!mapping.ok()) return mapping.status();
  job.mapping = mapping.value();
  const std::uint32_t scale = job.options.scale ? job.options.scale : usual_scale(model, channels);
  const Lowering how{true, job.options.precision == FSR_INT8, job.options.precision == FSR_BF16};
  Result<Network*> network = model.model->network(static_cast<int>(scale), channels, *model.kernels, how);
  if (!network.ok()) return network.status();
  job.network = network.value();
  const int out = job.network->graph().out_channels;
  if (out == channels) return {};
  return {Code::option, "the model's network for " + std::to_string(channels) + " channels gives " +
                            std::to_string(out) + "; as many out as in are needed"};
}

}  // namespace fastsr::capi
