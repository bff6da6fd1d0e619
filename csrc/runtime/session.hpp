// The memory, threads and book-keeping of one running call. Kept for the next call of the same shape, which then
// allocates nothing.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/aligned.hpp"
#include "core/thread_pool.hpp"
#include "runtime/network.hpp"

namespace fastsr {

class Session {
 public:
  static Result<std::unique_ptr<Session>> make(const Network& network, const Request& request,
                                               const PlanLimits& limits);
  static Result<std::unique_ptr<Session>> make(const Network& network, Plan plan, const PlanLimits& limits);

  bool fits(const Request& request, const PlanLimits& limits) const;
  // Made by the process that forked this one. Its threads are not here: it can neither run nor be destroyed.
  bool orphaned() const;
  Status run(const Request& request);

  // What run() is made of, for a caller who brings and takes rows at its own pace: start(), then advance() with rows
  // that the schedule calls ready.
  Status start(const Mapping& mapping, std::int64_t panel);
  Status advance(const Request& request, std::size_t stage, Range rows);
  // The whole image has this many rows; no more than was planned, no fewer than are loaded.
  void end_at(std::int64_t height);
  const Schedule& schedule() const { return schedule_; }
  int threads() const { return pool_.threads(); }

 private:
  Session(const Network& network, Plan plan, const PlanLimits& limits);
  bool allocate();

  // The groups of tiles that one stage makes of a strip, numbered down the columns: the runs of two threads meet within
  // a column. Every other strip is numbered from its last row upwards, so that the thread that ends one begins the
  // next.
  struct Tiles {
    std::int64_t first = 0;  // row of the image
    std::int64_t rows = 0;   // of tiles
    std::int64_t across = 0;
    bool upwards = false;

    std::int64_t row_of(std::int64_t group) const { return upwards ? rows - 1 - group % rows : group % rows; }
    // Rows of tiles with the same number are shared out to the threads in the same way.
    int sharing_of(std::int64_t row, int threads) const;
  };
  Tiles tiles_of(std::size_t stage, Range rows) const;

  // Memory of a row, and how it was shared when it was last used: its cache lines are with those threads.
  struct Slot {
    float* memory = nullptr;
    int sharing = 0;
  };

  // One stage's rows, shared out in pieces. Each thread has a run of neighbouring pieces, the same part of the image in
  // every stage, so that it finds in its cache what it wrote there; when done it helps the others.
  struct Work {
    Session* session = nullptr;
    std::size_t stage = 0;
    Range rows;  // that the stage makes
    std::int64_t pieces = 0;
    std::int64_t pieces_per_row = 1;
    Tiles tiles;                 // winograd
    std::int64_t tile_rows = 0;  // winograd9
    std::int64_t groups = 0;     // winograd9: shared out to the pieces
    ImageView pixels;            // load: the source's rows; store: the sink's
    std::atomic<bool> failed{false};
  };

  // A thread at work: it takes the pieces of its own run, then those that the threads behind it have left.
  struct Worker {
    Session& session;
    Work& work;
    int thread;
    std::int64_t turn = 0;  // threads whose runs are done

    // The next piece, or -1.
    std::int64_t take();
  };

  struct alignas(kCacheLine) Counter {
    std::atomic<std::int64_t> next{0};
  };

  Status run_panel(const Request& request, std::int64_t panel, std::int64_t total);
  Status run_stage(const Request& request, std::size_t stage, Range rows);
  void share(Work& work);
  static void take_pieces(void* work, int thread);
  void do_piece(Work& work, std::int64_t piece, int thread);

  void load_row(Work& work, std::int64_t y);
  void store_block(const Work& work, std::int64_t y, std::int64_t block);
  template <class Row>
  void set_row(int node, std::int64_t y, std::int64_t segment, BoundStep* steps, Row& row) const;
  void conv_row(int node, std::int64_t y, std::int64_t segment);
  void bf16_row(int node, std::int64_t y, std::int64_t segment, int thread);
  void winograd_groups(Worker& worker, int node);
  void winograd9_piece(const Work& work, int index, std::int64_t piece, int thread);
  void set_group(const Node& node, int value, std::int64_t y, std::int64_t x, TileGroup& group) const;
  void relayout_row(int node, std::int64_t y);
  void pointwise_row(int node, std::int64_t y);
  void concat_row(int node, std::int64_t y);
  void slice_row(int node, std::int64_t y);
  void shuffle_row(int node, std::int64_t y);
  void resize_row(int node, std::int64_t y, int thread);
  int bind_steps(const Node& node, std::int64_t y, BoundStep* bound) const;

  // Column `column` of channel 0 in row y of a value; the row is alive.
  float* row(int value, std::int64_t y, std::int64_t column) const;
  std::ptrdiff_t pitch(int value) const;
  // Row y of a tiled value: the block that begins at column x.
  float* tiles(int value, std::int64_t y, std::int64_t x) const;
  void take_slots(std::size_t stage, Range rows);
  void free_slots(int value, Range rows);

  const Network* network_;
  const Pipeline* pipeline_;
  Plan plan_;
  PlanLimits limits_;
  Schedule schedule_;
  ThreadPool pool_;
  std::vector<Counter> counters_;  // of each thread: the next piece of its run
  AlignedFloats memory_;
  AlignedFloats scratch_;
  std::vector<std::vector<Slot>> free_;   // of each pool: slots that hold no row
  std::vector<std::vector<Slot>> rings_;  // of each value: the slot of row y at y mod size
  std::vector<std::int64_t> strips_;      // of each stage: made in this panel
  std::vector<Range> columns_;            // of each value, in the panel that runs
  Range stored_columns_;
  std::vector<std::vector<float>> column_weights_;  // of each resize node
  std::vector<std::vector<int>> column_starts_;
  Mapping mapping_;
  long process_ = 0;  // that made the session
};

}  // namespace fastsr
