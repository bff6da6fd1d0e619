#include "runtime/session.hpp"

#include <algorithm>
#include <cstring>

#include "core/float_mode.hpp"
#include "graph/resize.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace fastsr {
namespace {

// Columns that one piece of work covers: a multiple of every level's vector, and of its register block's width.
constexpr std::int64_t kSegment = 192;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

long process_id() {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<long>(getpid());
#else
  return 0;
#endif
}

}  // namespace

Session::Session(const Network& network, Plan plan, const PlanLimits& limits)
    : network_(&network),
      pipeline_(&network.pipeline()),
      plan_(std::move(plan)),
      limits_(limits),
      schedule_(network.pipeline(), plan_.rows, stored_part(network.pipeline(), plan_.box.rows), plan_.strip),
      pool_(limits.threads),
      counters_(at(pool_.threads())),
      process_(process_id()) {}

Result<std::unique_ptr<Session>> Session::make(const Network& network, const Request& request,
                                               const PlanLimits& limits) {
  Result<Plan> plan = make_plan(network.pipeline(), request.height, request.width, request.box, limits);
  if (!plan.ok()) return plan.status();
  return make(network, std::move(plan.value()), limits);
}

Result<std::unique_ptr<Session>> Session::make(const Network& network, Plan plan, const PlanLimits& limits) {
  const std::uint64_t bytes = plan.memory;
  std::unique_ptr<Session> session(new Session(network, std::move(plan), limits));
  if (!session->allocate()) {
    return Status(Code::out_of_memory, "the system has no " + std::to_string(bytes) + " bytes of working memory");
  }
  return Result<std::unique_ptr<Session>>(std::move(session));
}

bool Session::allocate() {
  std::size_t floats = kOverread;
  for (std::size_t pool = 0; pool < plan_.slots.size(); ++pool)
    floats += plan_.slot_floats[pool] * at(plan_.slots[pool]);
  if (!memory_.allocate(floats) || !scratch_.allocate(plan_.scratch_floats * at(pool_.threads()))) return false;
  // The pad on the left of every row stays zero from here on: it is what convolutions see outside the image.
  if (floats > 0) std::memset(memory_.data(), 0, floats * sizeof(float));
  free_.resize(plan_.slots.size());
  for (std::size_t pool = 0; pool < free_.size(); ++pool) free_[pool].reserve(at(plan_.slots[pool]));
  for (int ring : plan_.ring) rings_.emplace_back(at(ring));
  columns_.reserve(plan_.rows.size());
  const Graph& graph = network_->graph();
  column_weights_.resize(graph.nodes.size());
  column_starts_.resize(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op != NodeOp::resize) continue;
    for (int phase = 0; phase < node.factor; ++phase) {
      const Taps taps = taps_of(node, phase);
      column_weights_[i].insert(column_weights_[i].end(), taps.weights, taps.weights + taps.count);
      column_starts_[i].push_back(taps.start);
    }
  }
  return true;
}

bool Session::orphaned() const { return process_ != process_id(); }

bool Session::fits(const Request& r, const PlanLimits& limits) const {
  const Box &a = plan_.box, &b = r.box;
  return plan_.height == r.height && plan_.width == r.width && a.rows.begin == b.rows.begin &&
         a.rows.end == b.rows.end && a.columns.begin == b.columns.begin && a.columns.end == b.columns.end &&
         limits_.max_memory == limits.max_memory && limits_.threads == limits.threads &&
         limits_.strip == limits.strip && limits_.panels == limits.panels &&
         limits_.staging_per_row == limits.staging_per_row;
}

float* Session::row(int value, std::int64_t y, std::int64_t column) const {
  const std::vector<Slot>& ring = rings_[at(value)];
  return ring[at(y) & (ring.size() - 1)].memory + kRowPad + (column - columns_[at(value)].begin);
}

float* Session::tiles(int value, std::int64_t y, std::int64_t x) const {
  const std::vector<Slot>& ring = rings_[at(value)];
  const std::int64_t before = (x - blocks_of(columns_[at(value)]).begin) / kBlockColumns;
  return ring[at(y) & (ring.size() - 1)].memory + before * block_words(network_->graph().value_words(value));
}

std::ptrdiff_t Session::pitch(int value) const { return plan_.pitch[at(pipeline_->pool_of[at(value)])]; }

Session::Tiles Session::tiles_of(std::size_t s, Range rows) const {
  const Stage& stage = pipeline_->stages[s];
  Tiles tiles;
  if (stage.kind != Stage::Kind::node || !network_->graph().nodes[at(stage.node)].in_tiles()) return tiles;
  tiles.first = align_down(rows.begin, kTileRows, network_->graph().nodes[at(stage.node)].row_anchor);
  tiles.rows = (rows.end - tiles.first + kTileRows - 1) / kTileRows;
  tiles.across = blocks_of(columns_[at(stage.value)]).size() / kBlockColumns;
  tiles.upwards = strips_[s] % 2 == 1;
  return tiles;
}

int Session::Tiles::sharing_of(std::int64_t row, int threads) const {
  const std::int64_t within = upwards ? rows - 1 - row : row;
  int sharing = 0;
  for (std::int64_t t = 1; t < threads; ++t) {
    const std::int64_t begin = rows * across * t / threads % rows;
    if (begin > 0 && begin <= within) ++sharing;
  }
  return sharing;
}

void Session::take_slots(std::size_t s, Range rows) {
  const int value = pipeline_->stages[s].value;
  std::vector<Slot>& free = free_[at(pipeline_->pool_of[at(value)])];
  std::vector<Slot>& ring = rings_[at(value)];
  const Tiles tiles = tiles_of(s, rows);
  for (std::int64_t y = rows.begin; y < rows.end; ++y) {
    const int sharing = tiles.rows > 0 ? tiles.sharing_of((y - tiles.first) / kTileRows, pool_.threads()) : 0;
    auto last = std::find_if(free.rbegin(), free.rend(), [&](const Slot& slot) { return slot.sharing == sharing; });
    const auto slot = last == free.rend() ? free.end() - 1 : last.base() - 1;
    ring[at(y) & (ring.size() - 1)] = {slot->memory, sharing};
    free.erase(slot);
  }
}

void Session::free_slots(int value, Range rows) {
  std::vector<Slot>& free = free_[at(pipeline_->pool_of[at(value)])];
  const std::vector<Slot>& ring = rings_[at(value)];
  for (std::int64_t y = rows.begin; y < rows.end; ++y) free.push_back(ring[at(y) & (ring.size() - 1)]);
}

Status Session::run(const Request& request) {
  const std::int64_t factor = pipeline_->store_factor;
  const std::int64_t total = stored_part(*pipeline_, plan_.box.rows).size() * factor * plan_.panels;
  for (std::int64_t panel = 0; panel < plan_.panels; ++panel) FASTSR_TRY(run_panel(request, panel, total));
  return {};
}

Status Session::start(const Mapping& mapping, std::int64_t panel) {
  mapping_ = mapping;
  needed(*pipeline_, plan_.width, plan_.panel(panel), false, columns_);
  stored_columns_ = stored_part(*pipeline_, plan_.panel(panel));
  for (std::size_t v = 0; v < columns_.size(); ++v) {
    const int value = static_cast<int>(v), words = network_->graph().value_words(value);
    const bool tiled = in_blocks(network_->graph().value_layout(value));
    const std::int64_t floats = tiled ? blocks_of(columns_[v]).size() / kBlockColumns * block_words(words)
                                      : (columns_[v].size() + 2 * kRowPad) * words;
    if (static_cast<std::size_t>(floats) > plan_.slot_floats[at(pipeline_->pool_of[v])]) {
      return {Code::internal, "internal error: a row is wider than planned"};
    }
  }
  float* slot = memory_.data();
  for (std::size_t pool = 0; pool < free_.size(); ++pool) {
    free_[pool].clear();
    for (int i = 0; i < plan_.slots[pool]; ++i, slot += plan_.slot_floats[pool]) free_[pool].push_back({slot, 0});
  }
  strips_.assign(pipeline_->stages.size(), 0);
  schedule_.restart();
  return {};
}

void Session::end_at(std::int64_t height) {
  plan_.height = height;
  plan_.box.rows = {0, height};
  needed(*pipeline_, height, plan_.box.rows, true, plan_.rows);
  schedule_.end_at(plan_.rows, stored_part(*pipeline_, plan_.box.rows));
}

Status Session::run_panel(const Request& request, std::int64_t panel, std::int64_t total) {
  FASTSR_TRY(start(request.mapping, panel));
  const std::int64_t factor = pipeline_->store_factor;
  const std::int64_t before = stored_part(*pipeline_, plan_.box.rows).size() * factor * panel;
  while (!schedule_.done()) {
    for (std::size_t s = 0; s < pipeline_->stages.size(); ++s) {
      const Range rows = schedule_.ready(s);
      if (rows.size() > 0) FASTSR_TRY(advance(request, s, rows));
    }
    if (request.monitor) FASTSR_TRY(request.monitor->progress(before + schedule_.stored() * factor, total));
  }
  return {};
}

Status Session::advance(const Request& request, std::size_t s, Range rows) {
  const Stage& stage = pipeline_->stages[s];
  if (stage.value >= 0) {
    const std::size_t free = free_[at(pipeline_->pool_of[at(stage.value)])].size();
    const std::size_t alive = at(schedule_.alive(stage.value) + rows.size());
    if (at(rows.size()) > free || alive > rings_[at(stage.value)].size()) {
      return {Code::internal, "internal error: more rows are alive than planned"};
    }
    take_slots(s, rows);
  }
  FASTSR_TRY(run_stage(request, s, rows));
  ++strips_[s];
  schedule_.made(s, rows);
  for (int input : stage.inputs) free_slots(input, schedule_.take_dead(input));
  return {};
}

Status Session::run_stage(const Request& request, std::size_t s, Range rows) {
  const Stage& stage = pipeline_->stages[s];
  const Graph& graph = network_->graph();
  Work work;
  work.session = this;
  work.stage = s;
  work.rows = rows;
  if (stage.kind == Stage::Kind::load) {
    FASTSR_TRY(request.source->rows(rows, columns_[0], work.pixels));
  } else if (stage.kind == Stage::Kind::store) {
    const std::int64_t f = pipeline_->store_factor;
    const Range columns = {stored_columns_.begin * f, stored_columns_.end * f};
    FASTSR_TRY(request.sink->prepare({rows.begin * f, rows.end * f}, columns, work.pixels));
    work.pieces_per_row = blocks_of(stored_columns_).size() / kBlockColumns;
  } else if (graph.nodes[at(stage.node)].in_tiles()) {
    work.tiles = tiles_of(s, rows);
    work.pieces_per_row = work.tiles.rows * work.tiles.across;
    work.rows = {work.tiles.first, work.tiles.first + 1};
  } else if (graph.nodes[at(stage.node)].in_parts()) {
    work.tile_rows = (rows.size() + kPartRows - 1) / kPartRows;
    work.groups = (columns_[at(stage.value)].size() + kPartRows - 1) / kPartRows;  // tiles across
    const std::int64_t threads = pool_.threads(), most = kPartTiles * threads;
    work.pieces_per_row = std::min(work.groups, (work.groups + most - 1) / most * threads);
    work.rows = {rows.begin, rows.begin + 1};
  } else if (graph.nodes[at(stage.node)].op == NodeOp::conv) {
    work.pieces_per_row = (columns_[at(stage.value)].size() + kSegment - 1) / kSegment;
  } else if (graph.nodes[at(stage.node)].op == NodeOp::pixel_shuffle) {
    const std::int64_t f = graph.nodes[at(stage.node)].factor;  // a piece makes the f rows of one input row
    work.rows = {rows.begin / f, rows.end / f};
  }
  work.pieces = work.rows.size() * work.pieces_per_row;
  share(work);
  if (work.failed.load(std::memory_order_relaxed)) {
    return {Code::pixel_value, "the image has a NaN or infinite pixel in rows " + std::to_string(rows.begin) + " to " +
                                   std::to_string(rows.end - 1)};
  }
  if (stage.kind == Stage::Kind::store) FASTSR_TRY(request.sink->commit());
  return {};
}

void Session::share(Work& work) {
  const DefinedFloatMode mode;
  for (std::int64_t t = 0; t < pool_.threads(); ++t) {
    counters_[at(t)].next.store(work.pieces * t / pool_.threads(), std::memory_order_relaxed);
  }
  if (work.pieces == 1) {
    take_pieces(&work, 0);
  } else {
    pool_.run(&Session::take_pieces, &work);
  }
}

std::int64_t Session::Worker::take() {
  for (const std::int64_t threads = session.pool_.threads(); turn < threads; ++turn) {
    const std::int64_t owner = (thread + turn) % threads, end = work.pieces * (owner + 1) / threads;
    const std::int64_t piece = session.counters_[at(owner)].next.fetch_add(1, std::memory_order_relaxed);
    if (piece < end) return piece;
  }
  return -1;
}

void Session::take_pieces(void* context, int thread) {
  Work& work = *static_cast<Work*>(context);
  Session& session = *work.session;
  Worker worker{session, work, thread};
  const Stage& stage = session.pipeline_->stages[work.stage];
  if (stage.kind == Stage::Kind::node && session.network_->graph().nodes[at(stage.node)].in_tiles()) {
    return session.winograd_groups(worker, stage.node);
  }
  for (std::int64_t piece = worker.take(); piece >= 0; piece = worker.take()) session.do_piece(work, piece, thread);
}

void Session::do_piece(Work& work, std::int64_t piece, int thread) {
  // Down the columns, as groups of tiles are numbered: then a thread's run is the same part of the rows in each stage.
  const std::int64_t y = work.rows.begin + piece % work.rows.size(), segment = piece / work.rows.size();
  const Stage& stage = pipeline_->stages[work.stage];
  if (stage.kind == Stage::Kind::load) return load_row(work, y);
  if (stage.kind == Stage::Kind::store) return store_block(work, y, segment);
  switch (network_->graph().nodes[at(stage.node)].op) {
    case NodeOp::conv:
      switch (network_->graph().nodes[at(stage.node)].algorithm) {
        case Algorithm::direct: return conv_row(stage.node, y, segment);
        case Algorithm::direct_bf16: return bf16_row(stage.node, y, segment, thread);
        case Algorithm::winograd:
        case Algorithm::winograd_int: return;  // winograd_groups()
        case Algorithm::winograd9:
        case Algorithm::winograd9_int: return winograd9_piece(work, stage.node, piece, thread);
      }
      return;
    case NodeOp::relayout: return relayout_row(stage.node, y);
    case NodeOp::pointwise: return pointwise_row(stage.node, y);
    case NodeOp::concat: return concat_row(stage.node, y);
    case NodeOp::slice: return slice_row(stage.node, y);
    case NodeOp::pixel_shuffle: return shuffle_row(stage.node, y);
    case NodeOp::resize: return resize_row(stage.node, y, thread);
  }
}

void Session::load_row(Work& work, std::int64_t y) {
  LoadRow a;
  a.pixels = work.pixels.at(y - work.rows.begin, 0);
  a.type = work.pixels.type;
  a.pixel_stride = work.pixels.pixel_stride;
  a.channel_stride = work.pixels.channel_stride;
  a.gain = mapping_.gain;
  a.offset = mapping_.offset;
  a.y = row(0, y, columns_[0].begin);
  a.y_pitch = pitch(0);
  a.channels = network_->graph().channels;
  a.width = columns_[0].size();
  if (!network_->kernels().load(a)) work.failed.store(true, std::memory_order_relaxed);
}

void Session::store_block(const Work& work, std::int64_t y, std::int64_t block) {
  const int value = pipeline_->result;
  const std::int64_t first = (stored_columns_.begin / kBlockColumns + block) * kBlockColumns;
  const Range columns{std::max(first, stored_columns_.begin), std::min(first + kBlockColumns, stored_columns_.end)};
  StoreRow a;
  a.x = row(value, y, columns.begin);
  a.x_pitch = pitch(value);
  a.factor = pipeline_->store_factor;
  a.width = columns.size();
  a.gain = mapping_.out_gain;
  a.offset = mapping_.out_offset;
  a.low = mapping_.low;
  a.high = mapping_.high;
  a.type = work.pixels.type;
  a.pixel_stride = work.pixels.pixel_stride;
  a.channel_stride = work.pixels.channel_stride;
  a.channels = network_->graph().out_channels;
  for (a.dy = 0; a.dy < a.factor; ++a.dy) {
    a.pixels =
        work.pixels.at((y - work.rows.begin) * a.factor + a.dy, (columns.begin - stored_columns_.begin) * a.factor);
    network_->kernels().store(a);
  }
}

int Session::bind_steps(const Node& node, std::int64_t y, BoundStep* bound) const {
  const ModelFile& file = network_->file();
  const int value = static_cast<int>(&node - network_->graph().nodes.data()) + 1;
  int count = 0;
  for (const Step& step : node.steps) {
    BoundStep& b = bound[count++];
    b.op = step.op;
    b.a = step.a;
    b.b = step.b;
    b.tensor0 = step.tensor0 >= 0 ? file.tensor(step.tensor0) : nullptr;
    b.tensor1 = step.tensor1 >= 0 ? file.tensor(step.tensor1) : nullptr;
    if (step.op == StepOp::add || step.op == StepOp::mul) {
      const int other = node.inputs[at(step.input)];
      b.other_pitch = pitch(other);
      b.other_scale = network_->quantizer(other).scale.data();
      b.other_bf16 = network_->graph().value_layout(other) == Layout::bf16;
      // The rows of tiles have their operands in their groups.
      if (!node.in_tiles()) b.other = row(other, y, columns_[at(value)].begin);
    }
  }
  return count;
}

// What rows of direct convolution have in common; steps: room for kMaxSteps.
template <class Row>
void Session::set_row(int index, std::int64_t y, std::int64_t segment, BoundStep* steps, Row& a) const {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0], value = index + 1;
  const Range columns = columns_[at(value)];
  const std::int64_t height = plan_.height * node.scale;
  for (int ky = 0; ky < node.kernel_h; ++ky) {
    const std::int64_t iy = y + ky - node.kernel_h / 2;
    a.rows[ky] = iy >= 0 && iy < height ? row(input, iy, columns.begin) : nullptr;
  }
  a.x_pitch = pitch(input);
  a.y = row(value, y, columns.begin);
  a.y_pitch = pitch(value);
  a.width = columns.size();
  a.x0 = segment * kSegment;
  a.x1 = std::min(a.x0 + kSegment, a.width);
  a.steps = steps;
  a.step_count = bind_steps(node, y, steps);
}

void Session::conv_row(int index, std::int64_t y, std::int64_t segment) {
  ConvRow a;
  BoundStep steps[kMaxSteps];
  set_row(index, y, segment, steps, a);
  a.conv = &network_->conv(index);
  network_->kernels().conv(a);
}

void Session::bf16_row(int index, std::int64_t y, std::int64_t segment, int thread) {
  Bf16Row a;
  BoundStep steps[kMaxSteps];
  set_row(index, y, segment, steps, a);
  a.conv = &network_->bf16(index);
  a.y_bf16 = network_->graph().nodes[at(index)].layout == Layout::bf16;
  a.scratch = scratch_.data() + plan_.scratch_floats * at(thread);
  network_->kernels().conv_bf16(a);
}

void Session::winograd_groups(Worker& worker, int index) {
  const Node& node = network_->graph().nodes[at(index)];
  const int value = index + 1;
  WinogradPiece a;
  a.conv = &network_->winograd(index);
  a.y_quantizer = &network_->quantizer(value);
  a.x_layout = network_->graph().value_layout(node.inputs[0]);
  a.y_layout = node.layout;
  a.x_pitch = pitch(node.inputs[0]);
  a.y_pitch = pitch(value);
  BoundStep steps[kMaxSteps];
  a.steps = steps;
  a.step_count = bind_steps(node, worker.work.rows.begin, steps);
  int operand = 0;
  for (int s = 0; s < a.step_count; ++s) {
    if (steps[s].op == StepOp::add || steps[s].op == StepOp::mul) a.other_pitch[operand++] = steps[s].other_pitch;
  }
  a.scratch = scratch_.data() + plan_.scratch_floats * at(worker.thread);
  a.context = &worker;
  a.next = [](void* context, TileGroup& group) {
    Worker& w = *static_cast<Worker*>(context);
    const std::int64_t piece = w.take();
    if (piece < 0) return false;
    const int done = w.session.pipeline_->stages[w.work.stage].value;
    const Tiles& tiles = w.work.tiles;
    const std::int64_t y = tiles.first + tiles.row_of(piece) * kTileRows;
    const std::int64_t x = blocks_of(w.session.columns_[at(done)]).begin + piece / tiles.rows * kBlockColumns;
    group = TileGroup();
    w.session.set_group(w.session.network_->graph().nodes[at(done - 1)], done, y, x, group);
    return true;
  };
  if (node.algorithm == Algorithm::winograd) {
    network_->kernels().winograd(a);
  } else {
    network_->kernels().winograd_int(a);
  }
}

// The group of tiles whose first pixel is (y, x): its inputs, outputs and operands.
void Session::set_group(const Node& node, int value, std::int64_t y, std::int64_t x, TileGroup& group) const {
  const Graph& graph = network_->graph();
  const int input = node.inputs[0];
  const bool x_tiled = in_blocks(graph.value_layout(input)), y_tiled = in_blocks(node.layout);
  const Range in = columns_[at(input)], out = columns_[at(value)], rows = plan_.rows[at(value)];
  const Range in_blocks = blocks_of(in);
  const int words = graph.value_words(input);
  const std::int64_t height = plan_.height * node.scale, width = plan_.width * node.scale;
  for (int i = 0; i < kTileInputs; ++i) {
    const std::int64_t iy = y + i - 1;
    if (iy < 0 || iy >= height) continue;
    group.x[i] = x_tiled ? tiles(input, iy, x) : row(input, iy, x);
    if (!x_tiled) continue;
    const float* edges = group.x[i] + std::ptrdiff_t{kBlockColumns} * words;  // [first, last], as of each block
    if (x > in_blocks.begin) group.x_left[i] = edges - block_words(words) + words;
    if (x + kBlockColumns < in_blocks.end) group.x_right[i] = edges + block_words(words);
  }
  for (int i = 0; i < kTileRows; ++i) {
    if (y + i < rows.begin || y + i >= rows.end) continue;
    group.y[i] = y_tiled ? tiles(value, y + i, x) : row(value, y + i, x);
    int operand = 0;
    for (const Step& step : node.steps) {
      if (step.op != StepOp::add && step.op != StepOp::mul) continue;
      const int other = node.inputs[at(step.input)];
      group.other[operand++][i] = y_tiled ? tiles(other, y + i, x) : row(other, y + i, x);
    }
  }
  auto clamp = [x](std::int64_t column) {
    return static_cast<int>(std::clamp<std::int64_t>(column - x, -kBlockColumns, 2 * kBlockColumns));
  };
  group.x_begin = clamp(in.begin);
  group.x_end = clamp(in.end);
  group.y_begin = std::max(clamp(out.begin), 0);
  group.y_end = std::min(clamp(out.end), kBlockColumns);
  group.image_end = std::min(clamp(width), kBlockColumns);
  group.last = x + kBlockColumns >= out.end;
}

// Some of the tiles across, all of the strip's rows of them from top to bottom.
void Session::winograd9_piece(const Work& work, int index, std::int64_t piece, int thread) {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0], value = index + 1;
  const Range out = columns_[at(value)], rows = plan_.rows[at(value)];
  const std::int64_t height = plan_.height * node.scale;
  const std::int64_t first = work.groups * piece / work.pieces, end = work.groups * (piece + 1) / work.pieces;
  const std::int64_t x = out.begin + first * kPartRows;
  Winograd9Row a;
  a.conv = &network_->winograd9(index);
  a.x_pitch = pitch(input);
  a.tiles = static_cast<int>(end - first);
  a.y_pitch = pitch(value);
  a.y_width = static_cast<int>(std::min(out.end - x, (end - first) * kPartRows));
  a.last = x + a.y_width == out.end;
  a.y_begin = x - out.begin;
  a.scratch = scratch_.data() + plan_.scratch_floats * at(thread);
  BoundStep steps[kPartRows][kMaxSteps];
  const std::int64_t u0 = work.rows.begin / kPartRows, u1 = u0 + work.tile_rows;
  for (a.u = u0; a.u < u1 + kParts - 1; ++a.u) {
    for (int i = 0; i < kPartInputs; ++i) {
      const std::int64_t y = a.u * kPartRows - node.halo_rows() + i;
      a.x[i] = y >= 0 && y < height ? row(input, y, x - node.halo_columns()) : nullptr;
    }
    for (int i = 0; i < kPartRows && a.u >= u0 + kParts - 1; ++i) {
      const std::int64_t y = (a.u - (kParts - 1)) * kPartRows + i;
      a.y[i] = y < rows.end ? row(value, y, x) : nullptr;
      a.steps[i] = steps[i];
      if (a.y[i]) a.step_count = bind_steps(node, y, steps[i]);
    }
    if (node.algorithm == Algorithm::winograd9) {
      network_->kernels().winograd9(a);
    } else {
      network_->kernels().winograd9_int(a);
    }
  }
}

void Session::relayout_row(int index, std::int64_t y) {
  const int input = network_->graph().nodes[at(index)].inputs[0], value = index + 1;
  const Range columns = columns_[at(input)], blocks = blocks_of(columns_[at(value)]);
  if (network_->graph().value_layout(value) == Layout::bf16) {
    Bf16Copy a;
    a.x = row(input, y, columns_[at(value)].begin);
    a.x_pitch = pitch(input);
    a.y = row(value, y, columns_[at(value)].begin);
    a.y_pitch = pitch(value);
    a.channels = network_->graph().value_channels(value);
    a.width = columns_[at(value)].size();
    return network_->kernels().copy_bf16(a);
  }
  RelayoutRow a;
  a.x = row(input, y, columns.begin);
  a.x_pitch = pitch(input);
  a.x_begin = columns.begin - blocks.begin;
  a.width = columns.size();
  a.y = tiles(value, y, blocks.begin);
  a.channels = network_->graph().value_channels(value);
  a.blocks = blocks.size() / kBlockColumns;
  if (network_->graph().value_layout(value) == Layout::tiled) {
    network_->kernels().relayout(a);
  } else {
    a.quantizer = &network_->quantizer(value);
    network_->kernels().pack(a);
  }
}

void Session::pointwise_row(int index, std::int64_t y) {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0], value = index + 1;
  const Range columns = columns_[at(value)];
  PointwiseRow a;
  a.x = row(input, y, columns.begin);
  a.x_pitch = pitch(input);
  a.y = row(value, y, columns.begin);
  a.y_pitch = pitch(value);
  a.channels = node.channels;
  a.width = columns.size();
  BoundStep steps[kMaxSteps];
  a.steps = steps;
  a.step_count = bind_steps(node, y, steps);
  network_->kernels().pointwise(a);
}

void Session::concat_row(int index, std::int64_t y) {
  const Graph& graph = network_->graph();
  const Node& node = graph.nodes[at(index)];
  const Range columns = columns_[at(index + 1)];
  float* to = row(index + 1, y, columns.begin);
  PointwiseRow a;
  a.y_pitch = pitch(index + 1);
  a.width = columns.size();
  for (int input : node.inputs) {
    a.x = row(input, y, columns.begin);
    a.x_pitch = pitch(input);
    a.y = to;
    a.channels = graph.value_channels(input);
    network_->kernels().pointwise(a);
    to += a.channels * a.y_pitch;
  }
}

void Session::slice_row(int index, std::int64_t y) {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0];
  const Range columns = columns_[at(index + 1)];
  PointwiseRow a;
  a.x_pitch = pitch(input);
  a.x = row(input, y, columns.begin) + node.begin * a.x_pitch;
  a.y = row(index + 1, y, columns.begin);
  a.y_pitch = pitch(index + 1);
  a.channels = node.channels;
  a.width = columns.size();
  network_->kernels().pointwise(a);
}

void Session::shuffle_row(int index, std::int64_t y) {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0], value = index + 1, f = node.factor;
  const Range columns = columns_[at(value)], blocks = blocks_of(columns_[at(input)]);
  ShuffleRow a;
  a.x_layout = network_->graph().value_layout(input);
  a.x = in_blocks(a.x_layout) ? tiles(input, y, blocks.begin) : row(input, y, columns.begin / f);
  a.x_pitch = pitch(input);
  a.x_begin = columns.begin / f - blocks.begin;
  a.blocks = blocks.size() / kBlockColumns;
  for (int dy = 0; dy < f; ++dy) a.y[dy] = row(value, y * f + dy, columns.begin);
  a.y_pitch = pitch(value);
  a.channels = node.channels;
  a.factor = f;
  a.width = columns.size() / f;
  a.y_width = columns.size();
  network_->kernels().shuffle(a);
}

void Session::resize_row(int index, std::int64_t y, int thread) {
  const Node& node = network_->graph().nodes[at(index)];
  const int input = node.inputs[0], value = index + 1, f = node.factor;
  const Range columns = columns_[at(value)], in_columns = columns_[at(input)];
  const std::int64_t in_scale = node.scale / f;
  const Taps taps = taps_of(node, static_cast<int>(y % f));
  ResizeRow a;
  a.taps = taps.count;
  a.factor = f;
  for (int t = 0; t < taps.count; ++t) {
    const std::int64_t iy = y / f + taps.start + t;
    a.rows[t] = row(input, std::clamp<std::int64_t>(iy, 0, plan_.height * in_scale - 1), in_columns.begin);
    a.row_weights[t] = taps.weights[t];
  }
  a.column_weights = column_weights_[at(index)].data();
  a.column_start = column_starts_[at(index)].data();
  a.x_pitch = pitch(input);
  a.x_width = in_columns.size();
  a.x_begin = columns.begin / f - in_columns.begin;
  a.left = in_columns.begin == 0;
  a.right = in_columns.end == plan_.width * in_scale;
  a.scratch = scratch_.data() + plan_.scratch_floats * at(thread);
  a.y = row(value, y, columns.begin);
  a.y_pitch = pitch(value);
  a.width = columns.size();
  a.channels = node.channels;
  network_->kernels().resize(a);
}

}  // namespace fastsr
