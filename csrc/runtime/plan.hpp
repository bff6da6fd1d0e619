// What one call will do, worked out before any pixel moves: which rows of every value are computed when, how
// many rows are alive at once, and so how much memory the call needs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/image.hpp"
#include "core/status.hpp"
#include "cpu/kernels.hpp"
#include "graph/graph.hpp"

namespace fastsr {

constexpr int kTilePeriod = 12;  // pixels after which tiles of 3 and of 4 begin alike

// How a stage's output rows follow from its input rows: output row y reads y / factor +- halo.
// Rows and columns are made `tile` at a time: rows from those with y mod tile == row_anchor on.
struct Reach {
  int factor = 1;
  int halo_rows = 0;
  int halo_columns = 0;
  int tile = 1;
  int row_anchor = 0;
};

// One stage of the stream: stage 0 loads the image, the last stage stores the result, between them run nodes.
struct Stage {
  enum class Kind { load, node, store };
  Kind kind = Kind::node;
  int node = -1;            // Kind::node: index into the graph
  int value = -1;           // that it makes; -1 for the last stage
  std::vector<int> inputs;  // values that it reads, each once
  Reach reach;
};

struct Consumer {
  int stage = 0;
  Reach reach;
};

// The graph as a line of stages; it knows no image size.
struct Pipeline {
  const Graph* graph = nullptr;
  std::vector<Stage> stages;
  std::vector<std::vector<Consumer>> consumers;  // of each value
  int result = 0;                                // the value that the last stage stores
  int store_factor = 1;                          // pixel shuffle that happens while storing
  int halo_rows = 0;                             // input pixels around an output pixel that are read for it
  int halo_columns = 0;
  std::vector<int> pool_of;  // of each value: rows of equal channels, scale and layout share a pool
  int pools = 0;
};

// The first row, or column, of the tile that holds x; tiles begin where x mod tile == anchor.
std::int64_t align_down(std::int64_t x, int tile, int anchor);

// The columns of the blocks of tiles that cover a range.
Range blocks_of(Range columns);

Pipeline make_pipeline(const Graph& graph);

// The part of each value that a box of the image needs, per axis, in the value's own pixels.
// `extent`: the image's height or width; `wanted`: the part of it that is wanted.
void needed(const Pipeline& pipeline, std::int64_t extent, Range wanted, bool rows, std::vector<Range>& need);

// Book-keeping of the stream: rows made, rows alive. The executor and the planner run this same code.
class Schedule {
 public:
  // rows: needed of each value; stored: of the result, all or some of its needed ones.
  Schedule(const Pipeline& pipeline, std::vector<Range> rows, Range stored, int strip);

  // Begin again for the next panel.
  void restart();
  // The image ends earlier than was planned: these rows of each value are needed.
  void end_at(const std::vector<Range>& rows, Range stored) {
    rows_ = rows;
    stored_ = stored;
  }
  bool done() const;
  // The output rows that a stage can make now (possibly none), at most a strip.
  Range ready(std::size_t stage) const;
  // The stage has made these rows.
  void made(std::size_t stage, Range rows);
  // The rows of a value that no stage will read again; they count as gone from now on.
  Range take_dead(int value);

  const Range& rows(int value) const { return rows_[static_cast<std::size_t>(value)]; }
  // Rows of a value that are made and not yet dead.
  std::int64_t alive(int value) const {
    return made_[static_cast<std::size_t>(value)] - gone_[static_cast<std::size_t>(value)];
  }
  // The end of the result's rows that can be stored, or have been.
  std::int64_t storable() const { return std::min(made_[static_cast<std::size_t>(pipeline_->result)], stored_.end); }
  std::int64_t stored() const { return next_.back() - stored_.begin; }

 private:
  Range range_of(std::size_t stage) const;

  const Pipeline* pipeline_;
  std::vector<Range> rows_;  // needed rows of each value
  Range stored_;
  std::vector<std::int64_t> next_;  // of each stage: the next row to make
  std::vector<std::int64_t> gone_;  // of each value: the first row still alive
  std::vector<std::int64_t> made_;  // of each value: one past the last row made
  int strip_;
};

// Rows or columns of the image, in pixels of the value that is stored.
Range stored_part(const Pipeline& pipeline, Range wanted);

struct Plan {
  std::int64_t height = 0;  // of the whole image
  std::int64_t width = 0;
  Box box;                            // wanted, in pixels of the image
  int strip = 0;                      // rows of the image that move at once
  std::vector<Range> rows;            // of each value
  std::int64_t panels = 1;            // vertical panels, done one after another: one for most images
  std::vector<int> slots;             // of each pool: rows alive at once
  std::vector<int> ring;              // of each value: a power of two, at least its rows alive at once
  std::vector<std::ptrdiff_t> pitch;  // of each pool: floats from channel to channel, where the layout is plain
  std::vector<std::size_t> slot_floats;
  std::size_t scratch_floats = 0;  // of each thread
  std::uint64_t memory = 0;        // bytes of working memory in all

  // The columns of the image that a panel makes.
  Range panel(std::int64_t index) const {
    const Range all = box.columns;
    return {all.begin + all.size() * index / panels, all.begin + all.size() * (index + 1) / panels};
  }
};

// A kernel's last vector may read this many floats beyond the last row's last channel, to no effect.
constexpr std::size_t kOverread = 2 * kRowPad;

struct PlanLimits {
  std::uint64_t max_memory = 0;  // 0: what is sensible
  int threads = 1;
  int strip = 0;                      // 0: the planner chooses
  bool panels = true;                 // may the image be cut into vertical panels
  std::uint64_t cache = 0;            // bytes; 0: of this processor
  std::uint64_t staging_per_row = 0;  // bytes that the caller's own buffers take for each row of a strip
};

// Find the fastest way to do the box within the limits.
// Fails with Code::memory_budget, and the least that would do, when none fits.
Result<Plan> make_plan(const Pipeline& pipeline, std::int64_t height, std::int64_t width, Box box,
                       const PlanLimits& limits);

}  // namespace fastsr
