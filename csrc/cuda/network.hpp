// A network that is ready to run on a GPU: one graph at one precision. Any number of threads may call run() at once.
// Results do not depend on strips, panels or the box. In fp32 they are those of the CPU engine without Winograd, to the
// bit; in fp16 a result that fp16 cannot hold is computed again in fp32.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.hpp"
#include "cuda/device.hpp"
#include "cuda/plan.hpp"
#include "cuda/weights.hpp"
#include "runtime/network.hpp"

namespace fastsr::cuda {

// Pixels that are on the device already, and stay there.
struct OnDevice {
  DevicePixels source;
  DevicePixels target;
  Stream stream = nullptr;  // the caller's: the work is put behind what is on it
};

struct Report {
  bool redone = false;       // fp16 could not hold a value: the result was computed in fp32
  std::uint64_t memory = 0;  // bytes of working memory
  int strip = 0;
  std::int64_t panels = 0;
};

class Workspace;

class Network {
 public:
  // `file` must outlive the network.
  // slow: every convolution as it is defined, for comparison.
  static Result<std::unique_ptr<Network>> make(const ModelFile& file, const Graph& graph, Precision precision,
                                               bool slow = false);
  ~Network();

  // Pixels go from the request's source to its sink, or where `on_device` says. The request's threads are not used.
  // Returns when the result is complete. In fp16 a sink may get rows twice: some, and then all of them again.
  Status run(const Request& request, const OnDevice* on_device, PixelType type, Report& report);
  // Gives back the memory that is kept for the next call of the same shape.
  void release();
  Box reads(std::int64_t height, std::int64_t width, Box box) const;
  // What run() would do, without doing it.
  Result<Plan> plan(const Request& request, bool on_device, PixelType type) const;

  const Graph& graph() const { return graph_; }
  const Pipeline& pipeline() const { return pipeline_; }
  const ModelFile& file() const { return *file_; }
  Precision precision() const { return precision_; }
  std::uint64_t weight_bytes() const;
  int device() const { return device_; }

 private:
  Network() = default;
  Result<const Weights*> weights(Precision precision);
  Status run_at(Precision precision, const Request& request, const OnDevice* on_device, PixelType type, Report& report,
                bool& holds);
  Result<std::unique_ptr<Workspace>> take_workspace(const Weights& weights, const Request& request, Limits limits);

  const ModelFile* file_ = nullptr;
  Graph graph_;
  Pipeline pipeline_;
  Precision precision_ = Precision::fp32;
  bool slow_ = false;
  int device_ = 0;
  mutable std::mutex mutex_;
  std::unique_ptr<Weights> weights_[2];  // of each precision, made when first needed; guarded by mutex_
  std::unique_ptr<Workspace> idle_;      // guarded by mutex_
};

}  // namespace fastsr::cuda
