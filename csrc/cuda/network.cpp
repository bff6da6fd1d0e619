#include "cuda/network.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "cuda/workspace.hpp"
#include "runtime/lower.hpp"

namespace fastsr::cuda {
namespace {

std::string text(std::uint64_t value) { return std::to_string(value); }

Limits limits_of(const Request& request, Precision precision, bool on_device, PixelType type) {
  Limits limits;
  limits.precision = precision;
  limits.max_memory = request.max_memory;
  limits.strip = request.strip;
  limits.panels = request.panels;
  limits.staged = !on_device;
  limits.pixel_bytes = fastsr::size_of(type);
  limits.staging_per_row = request.staging_per_row;
  return limits;
}

Status check(const Graph& graph, const Request& r) {
  // The kernels count the samples of a row, padding included, in 32 bits.
  int most = padded(graph.channels);
  for (const Node& node : graph.nodes) most = std::max(most, node.scale * padded(node.channels));
  const std::int64_t limit = std::numeric_limits<std::int32_t>::max() / most / 2;
  if (r.height < 1 || r.width < 1 || r.height > limit || r.width > limit) {
    return {Code::shape, "the image is " + std::to_string(r.height) + " x " + std::to_string(r.width) + "; 1 to " +
                             std::to_string(limit) + " rows and columns are possible"};
  }
  const Box& b = r.box;
  if (b.rows.begin < 0 || b.rows.end > r.height || b.rows.size() < 1 || b.columns.begin < 0 ||
      b.columns.end > r.width || b.columns.size() < 1) {
    return {Code::option, "the box is empty or not inside the image of " + std::to_string(r.width) + " x " +
                              std::to_string(r.height) + " pixels"};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Network>> Network::make(const ModelFile& file, const Graph& graph, Precision precision,
                                               bool slow) {
  const std::string reason = why_no_device();
  if (!reason.empty()) return Status(Code::option, reason);
  std::unique_ptr<Network> network(new Network);
  network->file_ = &file;
  network->graph_ = lower(graph, {false});
  network->pipeline_ = make_pipeline(network->graph_);
  network->precision_ = precision;
  network->slow_ = slow;
  Result<int> device = current_device();
  if (!device.ok()) return device.status();
  network->device_ = device.value();
  Result<const Weights*> weights = network->weights(precision);
  if (!weights.ok()) return weights.status();
  return Result<std::unique_ptr<Network>>(std::move(network));
}

Network::~Network() {
  const DeviceScope scope(device_);
  idle_.reset();
  for (std::unique_ptr<Weights>& weights : weights_) weights.reset();
}

Result<const Weights*> Network::weights(Precision precision) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Weights>& place = weights_[precision == Precision::fp16];
  if (!place) {
    Result<std::unique_ptr<Weights>> made = Weights::make(*file_, graph_, precision, slow_);
    if (!made.ok()) return made.status();
    place = std::move(made.value());
  }
  return static_cast<const Weights*>(place.get());
}

std::uint64_t Network::weight_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t bytes = 0;
  for (const std::unique_ptr<Weights>& weights : weights_) bytes += weights ? weights->bytes() : 0;
  return bytes;
}

Box Network::reads(std::int64_t height, std::int64_t width, Box box) const {
  std::vector<Range> rows, columns;
  needed(pipeline_, height, box.rows, true, rows);
  needed(pipeline_, width, box.columns, false, columns);
  return {rows[0], columns[0]};
}

Result<Plan> Network::plan(const Request& request, bool on_device, PixelType type) const {
  FASTSR_TRY(check(graph_, request));
  return make_plan(pipeline_, request.height, request.width, request.box,
                   limits_of(request, precision_, on_device, type));
}

void Network::release() {
  const DeviceScope scope(device_);
  std::lock_guard<std::mutex> lock(mutex_);
  idle_.reset();
}

// Where the device has too little memory for what is fastest, smaller strips are tried down to the least.
Result<std::unique_ptr<Workspace>> Network::take_workspace(const Weights& weights, const Request& request,
                                                           Limits limits) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (idle_ && idle_->fits(weights, request, limits)) return std::move(idle_);
    idle_.reset();
  }
  const Limits asked = limits;
  Status refused;
  for (;;) {
    Result<Plan> plan = make_plan(pipeline_, request.height, request.width, request.box, limits);
    if (!plan.ok()) {
      if (refused.ok()) return plan.status();
      Result<MemoryInfo> info = memory_info();
      const std::string free = info.ok() ? text(info.value().free) + " bytes are free" : "little is free";
      return Status(Code::out_of_memory, refused.message() + "; " + free + ", and this call needs at least " +
                                             text(plan.status().least()) + " bytes");
    }
    const std::uint64_t memory = plan.value().memory;
    Result<std::unique_ptr<Workspace>> made = Workspace::make(*this, weights, std::move(plan.value()), asked);
    if (made.ok() || made.status().code() != Code::out_of_memory) return made;
    refused = made.status();
    limits.max_memory = memory - memory / 4;
  }
}

Status Network::run_at(Precision precision, const Request& request, const OnDevice* on_device, PixelType type,
                       Report& report, bool& holds) {
  Result<const Weights*> packed = weights(precision);
  if (!packed.ok()) return packed.status();
  Result<std::unique_ptr<Workspace>> taken =
      take_workspace(*packed.value(), request, limits_of(request, precision, on_device != nullptr, type));
  if (!taken.ok()) return taken.status();
  std::unique_ptr<Workspace> workspace = std::move(taken.value());
  const Status status = workspace->run(request, on_device, type, holds);
  report.memory = workspace->plan().memory;
  report.strip = workspace->plan().strip;
  report.panels = workspace->plan().panels;
  std::lock_guard<std::mutex> lock(mutex_);
  idle_ = std::move(workspace);
  return status;
}

Status Network::run(const Request& request, const OnDevice* on_device, PixelType type, Report& report) {
  FASTSR_TRY(check(graph_, request));
  const DeviceScope scope(device_);
  FASTSR_TRY(scope.status());
  bool holds = true;
  FASTSR_TRY(run_at(precision_, request, on_device, type, report, holds));
  if (holds) return {};
  report.redone = true;
  return run_at(Precision::fp32, request, on_device, type, report, holds);
}

}  // namespace fastsr::cuda
