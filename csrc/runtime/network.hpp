// A network that is ready to run: one graph, packed for one ISA level. Any number of threads may call run() at
// once; results do not depend on threads, strips, panels, the box, or the ISA level.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/image.hpp"
#include "core/status.hpp"
#include "cpu/kernels.hpp"
#include "graph/graph.hpp"
#include "runtime/lower.hpp"
#include "runtime/plan.hpp"

namespace fastsr {

// Where the LR rows come from. Called by one thread only, the caller's, with rows from top to bottom (once for
// each panel).
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Make `view` show these rows and columns of the image; it stays valid until the next call.
  virtual Status rows(Range rows, Range columns, ImageView& view) = 0;
};

// Where the SR rows go; likewise.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // Make `view` a place for these rows and columns of the result (in its own pixels).
  virtual Status prepare(Range rows, Range columns, ImageView& view) = 0;
  // The rows that were prepared last are complete.
  virtual Status commit() = 0;
};

// Hears of the progress now and then, from the caller's thread.
class Monitor {
 public:
  virtual ~Monitor() = default;
  virtual Status progress(std::int64_t done, std::int64_t total) = 0;
};

// Pixel values to the network's range and back: x = pixel * gain + offset, pixel = y * out_gain + out_offset,
// rounded and clamped to low..high where pixels are integers.
struct Mapping {
  float gain = 1;
  float offset = 0;
  float out_gain = 1;
  float out_offset = 0;
  float low = 0;
  float high = 0;
};

struct Request {
  std::int64_t height = 0;  // of the whole image
  std::int64_t width = 0;
  Box box;  // of the image that is wanted
  Mapping mapping;
  RowSource* source = nullptr;
  RowSink* sink = nullptr;
  Monitor* monitor = nullptr;
  int threads = 0;                    // 0: as many as the process may use
  std::uint64_t max_memory = 0;       // bytes; 0: what is sensible
  int strip = 0;                      // rows that move at once; 0: the planner chooses
  bool panels = true;                 // may rows be asked for several times
  std::uint64_t staging_per_row = 0;  // bytes that source and sink take for each row of a strip
};

class Session;

class Network {
 public:
  // `file` must outlive the network.
  static Result<std::unique_ptr<Network>> make(const ModelFile& file, const Graph& graph, const Kernels& kernels,
                                               const Lowering& how = {});
  ~Network();

  Status run(const Request& request);
  // Packs the weights for the kernels, unless that is done: the first run does it, and a session of one's own needs it.
  Status prepare();
  // Gives back the memory that is kept for the next call of the same shape.
  void release();
  // The part of the image that the box's result depends on.
  Box reads(std::int64_t height, std::int64_t width, Box box) const;
  // What run() would do, without doing it.
  Result<Plan> plan(const Request& request) const;

  // As it runs, see lower().
  const Graph& graph() const { return graph_; }
  const Kernels& kernels() const { return *kernels_; }
  const Lowering& lowering() const { return lowering_; }
  const Pipeline& pipeline() const { return pipeline_; }
  const ModelFile& file() const { return *file_; }
  const PackedConv& conv(int node) const { return convs_[static_cast<std::size_t>(node)]; }
  const PackedWinograd& winograd(int node) const { return winograds_[static_cast<std::size_t>(node)]; }
  const PackedWinograd9& winograd9(int node) const { return winograd9s_[static_cast<std::size_t>(node)]; }
  const PackedBf16& bf16(int node) const { return bf16s_[static_cast<std::size_t>(node)]; }
  const Quantizer& quantizer(int value) const { return quantizers_[static_cast<std::size_t>(value)]; }

 private:
  Network() = default;
  bool pack();  // false: no memory
  Status check(const Request& request) const;
  PlanLimits limits(const Request& request) const;
  void drop_idle();

  const ModelFile* file_ = nullptr;
  Graph graph_;
  const Kernels* kernels_ = nullptr;
  Lowering lowering_;
  Pipeline pipeline_;
  std::mutex packing_;
  bool packed_ = false;            // guarded by packing_; once true, what follows does not change
  std::vector<PackedConv> convs_;  // of each node; empty for other operations
  std::vector<PackedWinograd> winograds_;
  std::vector<PackedWinograd9> winograd9s_;
  std::vector<PackedBf16> bf16s_;
  std::vector<Quantizer> quantizers_;  // of each value; empty where it is not in cells
  std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;  // guarded by mutex_; all of the call that ran last
};

// A source and a sink over pixels in memory. `origin`: where view's first pixel lies in the image.
class ViewSource : public RowSource {
 public:
  ViewSource(const ImageView& view, std::int64_t origin_y, std::int64_t origin_x)
      : view_(view), origin_y_(origin_y), origin_x_(origin_x) {}
  Status rows(Range rows, Range columns, ImageView& view) override;

 private:
  ImageView view_;
  std::int64_t origin_y_, origin_x_;
};

class ViewSink : public RowSink {
 public:
  ViewSink(const ImageView& view, std::int64_t origin_y, std::int64_t origin_x)
      : view_(view), origin_y_(origin_y), origin_x_(origin_x) {}
  Status prepare(Range rows, Range columns, ImageView& view) override;
  Status commit() override { return {}; }

 private:
  ImageView view_;
  std::int64_t origin_y_, origin_x_;
};

}  // namespace fastsr
