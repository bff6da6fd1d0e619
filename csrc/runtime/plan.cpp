#include "runtime/plan.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "cpu/cache.hpp"
#include "cpu/winograd.hpp"

namespace fastsr {
namespace {

// Without a budget, calls stay below this where panels can do it: rows of very wide images would fall out of
// every cache, and a few per cent of work done twice at the panels' edges costs less.
constexpr std::uint64_t kSensibleMemory = std::uint64_t{192} << 20;
constexpr int kStrips[] = {48, 24, 16, 8, 4, 2, 1};
// With rows of more than so many caches a strip of one row of tiles is fastest (FMEN, 2560 columns: by 8 % against two
// rows, where it is slower by 5 % at 1920), and takes half the memory.
constexpr std::uint64_t kCaches = 2;
constexpr int kEnoughRows = 8;              // a strip of more is slower to leave the cache, and needs more memory
constexpr int kSharedRows = 24;             // where threads share columns of groups, and pass their rows back and forth
constexpr int kThreadGroups = 3;            // of tiles, that keep a thread busy
constexpr std::int64_t kEnoughGroups = 24;  // of a strip: fewer read the layers' weights again too soon
constexpr std::int64_t kFewColumns = 6;     // of groups for a thread: with more, a shared one does not count
constexpr std::int64_t kWidePanel = 1024;   // panels that nobody's budget asked for are not narrower
constexpr std::int64_t kNarrowPanel = 16;   // nor any panel than this: the halo around it would be most of the work
constexpr std::int64_t kFewPanels = 8;      // so many are looked at one by one
constexpr std::int64_t kFar = 1 << 20;      // far from every border
constexpr std::size_t kLineFloats = kCacheLine / sizeof(float);
constexpr std::int64_t kFloatsPerLine = static_cast<std::int64_t>(kCacheLine / sizeof(float));

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

Reach reach_of(const Node& node) {
  const int tile = node.in_tiles() ? kTileRows : node.in_parts() ? kPartRows : 1;
  return {node.own_scale(), node.halo_rows(), node.halo_columns(), tile, node.row_anchor};
}

// The tiles that cover a range, as far as they lie in the value's extent.
Range tiles_of(Range range, int tile, int anchor, std::int64_t extent) {
  return {std::max<std::int64_t>(align_down(range.begin, tile, anchor), 0),
          std::min(align_down(range.end + tile - 1, tile, anchor), extent)};
}

void join(Range& all, Range more) {
  if (all.size() == 0) {
    all = more;
  } else {
    all = {std::min(all.begin, more.begin), std::max(all.end, more.end)};
  }
}

struct RowCounts {
  std::vector<int> slots;
  std::vector<int> ring;
};

RowCounts count_rows(const Pipeline& p, const Plan& plan, int strip) {
  const std::vector<Range>& rows = plan.rows;
  Schedule schedule(p, rows, stored_part(p, plan.box.rows), strip);
  std::vector<std::int64_t> alive(rows.size()), most(rows.size());
  std::vector<std::int64_t> used(at(p.pools)), most_used(at(p.pools));
  while (!schedule.done()) {
    for (std::size_t s = 0; s < p.stages.size(); ++s) {
      const Stage& stage = p.stages[s];
      const Range ready = schedule.ready(s);
      if (ready.size() == 0) continue;
      if (stage.value >= 0) {
        const std::size_t v = at(stage.value), pool = at(p.pool_of[v]);
        alive[v] += ready.size();
        used[pool] += ready.size();
        most[v] = std::max(most[v], alive[v]);
        most_used[pool] = std::max(most_used[pool], used[pool]);
      }
      schedule.made(s, ready);
      for (int input : stage.inputs) {
        const std::int64_t dead = schedule.take_dead(input).size();
        alive[at(input)] -= dead;
        used[at(p.pool_of[at(input)])] -= dead;
      }
    }
  }
  RowCounts counts;
  for (std::int64_t n : most_used) counts.slots.push_back(static_cast<int>(n));
  for (std::int64_t n : most) {
    int ring = 1;
    while (ring < n) ring *= 2;
    counts.ring.push_back(ring);
  }
  return counts;
}

// The widest that each value gets in any panel; whole blocks where it is tiled.
std::vector<std::int64_t> widest_columns(const Pipeline& p, const Plan& plan) {
  std::vector<Range> columns;
  std::vector<std::int64_t> widths(p.pool_of.size());
  auto widen = [&](std::int64_t extent, Range wanted, bool anywhere) {
    needed(p, extent, wanted, false, columns);
    for (std::size_t v = 0; v < columns.size(); ++v) {
      const int value = static_cast<int>(v);
      const bool tiled = in_blocks(p.graph->value_layout(value));
      const std::int64_t all = plan.width * p.graph->value_scale(value);
      std::int64_t width = tiled ? blocks_of(columns[v]).size() : columns[v].size();
      if (tiled && anywhere) width = ((columns[v].size() - 2) / kBlockColumns + 2) * kBlockColumns;
      widths[v] = std::max(widths[v], std::min(width, tiled ? blocks_of({0, all}).size() : all));
    }
  };
  if (plan.panels <= kFewPanels) {
    for (std::int64_t i = 0; i < plan.panels; ++i) widen(plan.width, plan.panel(i), false);
  } else {  // panels far from both borders have their halo on both sides, and begin anywhere in a tile or block
    const std::int64_t part = (plan.box.columns.size() + plan.panels - 1) / plan.panels;
    for (std::int64_t x = kFar; x < kFar + kTilePeriod; ++x) widen(2 * kFar + part, {x, x + part}, true);
  }
  return widths;
}

// Fill in everything of the plan that depends on the columns.
void lay_out(const Pipeline& p, Plan& plan, const RowCounts& counts, std::int64_t panels, const PlanLimits& limits) {
  plan.panels = panels;
  plan.slots = counts.slots;
  plan.ring = counts.ring;
  const std::vector<std::int64_t> widths = widest_columns(p, plan);
  std::vector<std::int64_t> widest(at(p.pools));
  for (std::size_t v = 0; v < widths.size(); ++v) {
    widest[at(p.pool_of[v])] = std::max(widest[at(p.pool_of[v])], widths[v]);
  }
  plan.scratch_floats = 0;
  for (const Stage& stage : p.stages) {
    if (stage.kind != Stage::Kind::node || p.graph->nodes[at(stage.node)].op != NodeOp::resize) continue;
    const auto floats = static_cast<std::size_t>(widths[at(stage.inputs[0])] + 3 * kRowPad);
    plan.scratch_floats = std::max(plan.scratch_floats, floats);
  }
  for (const Node& node : p.graph->nodes) {
    if (node.op != NodeOp::conv) continue;
    const int inputs = p.graph->value_words(node.inputs[0]);
    std::size_t size = 0;
    if (node.in_tiles()) size = winograd_scratch(inputs, node.channels).size;
    if (node.algorithm == Algorithm::direct_bf16) size = at(node.channels * kBf16Stripe);
    if (node.in_parts()) size = winograd9_scratch(inputs, node.channels);
    plan.scratch_floats = std::max(plan.scratch_floats, size);
  }
  plan.scratch_floats = (plan.scratch_floats + kLineFloats - 1) / kLineFloats * kLineFloats;
  plan.pitch.assign(at(p.pools), 0);
  plan.slot_floats.assign(at(p.pools), 0);
  for (std::size_t v = 0; v < p.pool_of.size(); ++v) {
    const std::size_t pool = at(p.pool_of[v]);
    const int words = p.graph->value_words(static_cast<int>(v));
    const bool tiled = in_blocks(p.graph->value_layout(static_cast<int>(v)));
    const std::int64_t floats = tiled ? widest[pool] / kBlockColumns * block_words(words) : widest[pool] + 2 * kRowPad;
    // An odd number of cache lines spreads the channels, or the rows, over the cache's sets.
    const std::int64_t line = ((floats + kFloatsPerLine - 1) / kFloatsPerLine | 1) * kFloatsPerLine;
    plan.pitch[pool] = tiled ? 0 : line;
    plan.slot_floats[pool] = static_cast<std::size_t>(tiled ? line : line * words);
  }
  std::size_t floats = plan.scratch_floats * at(limits.threads) + kOverread;
  for (int pool = 0; pool < p.pools; ++pool) floats += plan.slot_floats[at(pool)] * at(plan.slots[at(pool)]);
  plan.memory = floats * sizeof(float) + limits.staging_per_row * at(plan.strip);
  for (int ring : plan.ring) plan.memory += at(ring) * sizeof(float*);
}

// What the panels' shared edges and small strips cost, as a factor of the work.
double cost_of(const Pipeline& p, std::int64_t width, std::int64_t panels, int strip) {
  // Two halos at each edge between panels, of which the layers need half on average.
  const double edges = 1.0 + static_cast<double>((panels - 1) * p.halo_columns) / static_cast<double>(width);
  return edges * (1.0 + 0.3 / strip);
}

// The least strip of enough groups that the threads can share evenly, or of kSharedRows, or that keeps the threads
// busy.
int enough_rows(std::int64_t width, int threads) {
  const std::int64_t groups_across = (width + kBlockColumns - 1) / kBlockColumns;
  const bool shared = groups_across % threads != 0 && groups_across < kFewColumns * threads;
  for (int strip = kEnoughRows; !shared && strip < kSharedRows; strip += kEnoughRows) {
    const std::int64_t groups = strip / kTileRows * groups_across;
    if (groups >= kEnoughGroups && groups % threads == 0) return strip;
  }
  int strip = kSharedRows;
  while (strip < kStrips[0] && strip / kTileRows * groups_across < std::int64_t{kThreadGroups} * threads) {
    strip += kEnoughRows;
  }
  return strip;
}

// The least strip of whole rows of tiles that keeps the threads busy.
int least_full_strip(std::int64_t width, int threads) {
  const std::int64_t groups_across = (width + kBlockColumns - 1) / kBlockColumns;
  const std::int64_t rows = (std::int64_t{kThreadGroups} * threads + groups_across - 1) / groups_across;
  return static_cast<int>(std::min<std::int64_t>(rows * kTileRows, kStrips[0]));
}

// What a plan's rows take, without what each thread has for itself.
std::uint64_t rows_memory(const Plan& plan, const PlanLimits& limits) {
  return plan.memory - plan.scratch_floats * at(limits.threads) * sizeof(float);
}

std::string bytes_text(std::uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

Pipeline make_pipeline(const Graph& graph) {
  Pipeline p;
  p.graph = &graph;
  const std::size_t values = graph.nodes.size() + 1;
  // The last pixel shuffle happens while storing, where only the result reads it.
  p.result = graph.output;
  const Node& last = graph.nodes[at(graph.output - 1)];
  bool read_elsewhere = false;
  for (const Node& node : graph.nodes) {
    read_elsewhere |= std::find(node.inputs.begin(), node.inputs.end(), graph.output) != node.inputs.end();
  }
  if (last.op == NodeOp::pixel_shuffle && !read_elsewhere && last.inputs[0] != 0) {
    p.result = last.inputs[0];
    p.store_factor = last.factor;
  }
  std::vector<bool> used(values);
  used[at(p.result)] = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (!used[i + 1]) continue;
    for (int input : graph.nodes[i].inputs) used[at(input)] = true;
  }
  used[0] = true;
  p.consumers.resize(values);
  Stage load;
  load.kind = Stage::Kind::load;
  load.value = 0;
  p.stages.push_back(load);
  auto add_stage = [&p](Stage stage) {
    std::sort(stage.inputs.begin(), stage.inputs.end());
    stage.inputs.erase(std::unique(stage.inputs.begin(), stage.inputs.end()), stage.inputs.end());
    for (int input : stage.inputs) p.consumers[at(input)].push_back({static_cast<int>(p.stages.size()), stage.reach});
    p.stages.push_back(std::move(stage));
  };
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!used[i + 1]) continue;
    Stage stage;
    stage.node = static_cast<int>(i);
    stage.value = static_cast<int>(i + 1);
    stage.inputs = graph.nodes[i].inputs;
    stage.reach = reach_of(graph.nodes[i]);
    add_stage(std::move(stage));
  }
  Stage store;
  store.kind = Stage::Kind::store;
  store.inputs = {p.result};
  add_stage(std::move(store));

  using Key = std::tuple<int, int, Layout>;
  std::map<Key, int> pools;
  for (std::size_t v = 0; v < values; ++v) {
    const int value = static_cast<int>(v);
    const Key key{graph.value_channels(value), graph.value_scale(value), graph.value_layout(value)};
    p.pool_of.push_back(pools.emplace(key, static_cast<int>(pools.size())).first->second);
  }
  p.pools = static_cast<int>(pools.size());

  // The halo: the most that one pixel far from every border needs of the image, wherever it lies in its tile.
  std::vector<Range> need;
  for (std::int64_t y = kFar; y < kFar + kTilePeriod; ++y) {
    needed(p, 2 * kFar, {y, y + 1}, true, need);
    p.halo_rows = static_cast<int>(std::max({std::int64_t{p.halo_rows}, y - need[0].begin, need[0].end - y - 1}));
    needed(p, 2 * kFar, {y, y + 1}, false, need);
    p.halo_columns = static_cast<int>(std::max({std::int64_t{p.halo_columns}, y - need[0].begin, need[0].end - y - 1}));
  }
  return p;
}

std::int64_t align_down(std::int64_t x, int tile, int anchor) { return floor_div(x - anchor, tile) * tile + anchor; }

Range blocks_of(Range columns) {
  return {columns.begin / kBlockColumns * kBlockColumns,
          (columns.end + kBlockColumns - 1) / kBlockColumns * kBlockColumns};
}

void needed(const Pipeline& p, std::int64_t extent, Range wanted, bool rows, std::vector<Range>& need) {
  const Graph& graph = *p.graph;
  need.assign(graph.nodes.size() + 1, Range{});
  need[at(p.result)] = stored_part(p, wanted);
  for (std::size_t s = p.stages.size() - 1; s-- > 1;) {
    const Stage& stage = p.stages[s];
    Range& out = need[at(stage.value)];
    if (out.size() == 0) continue;
    const std::int64_t factor = stage.reach.factor;
    out = {floor_div(out.begin, factor) * factor, floor_div(out.end + factor - 1, factor) * factor};
    if (stage.reach.tile > 1) {
      out = tiles_of(out, stage.reach.tile, rows ? stage.reach.row_anchor : 0, extent * graph.value_scale(stage.value));
    }
    const std::int64_t halo = rows ? stage.reach.halo_rows : stage.reach.halo_columns;
    for (int input : stage.inputs) {
      const std::int64_t end = extent * graph.value_scale(input);
      join(need[at(input)],
           {std::max<std::int64_t>(out.begin / factor - halo, 0), std::min(out.end / factor + halo, end)});
    }
  }
}

Range stored_part(const Pipeline& p, Range wanted) {
  const std::int64_t scale = p.graph->value_scale(p.result);
  return {wanted.begin * scale, wanted.end * scale};
}

Schedule::Schedule(const Pipeline& pipeline, std::vector<Range> rows, Range stored, int strip)
    : pipeline_(&pipeline), rows_(std::move(rows)), stored_(stored), strip_(strip) {
  next_.resize(pipeline.stages.size());
  gone_.resize(rows_.size());
  made_.resize(rows_.size());
  restart();
}

Range Schedule::range_of(std::size_t stage) const {
  const Stage& s = pipeline_->stages[stage];
  return s.value >= 0 ? rows_[at(s.value)] : stored_;
}

void Schedule::restart() {
  for (std::size_t s = 0; s < next_.size(); ++s) next_[s] = range_of(s).begin;
  for (std::size_t v = 0; v < rows_.size(); ++v) gone_[v] = made_[v] = rows_[v].begin;
}

bool Schedule::done() const { return next_.back() == range_of(next_.size() - 1).end; }

Range Schedule::ready(std::size_t stage) const {
  const Stage& s = pipeline_->stages[stage];
  const Range all = range_of(stage);
  std::int64_t end = all.end;
  for (int input : s.inputs) {
    const std::int64_t made = made_[at(input)];
    if (made < rows_[at(input)].end) end = std::min(end, (made - s.reach.halo_rows) * s.reach.factor);
  }
  const int value = s.value >= 0 ? s.value : pipeline_->result;
  std::int64_t most = std::int64_t{strip_} * pipeline_->graph->value_scale(value);
  const std::int64_t tile = s.reach.tile;
  most = (most + tile - 1) / tile * tile;  // else it would fall behind
  end = std::min(end, next_[stage] + most);
  if (end < all.end) end = align_down(end, s.reach.tile, s.reach.row_anchor);
  return {next_[stage], std::max(end, next_[stage])};
}

void Schedule::made(std::size_t stage, Range rows) {
  next_[stage] = rows.end;
  const int value = pipeline_->stages[stage].value;
  if (value >= 0) made_[at(value)] = rows.end;
}

Range Schedule::take_dead(int value) {
  const std::size_t v = at(value);
  std::int64_t alive = made_[v];
  for (const Consumer& consumer : pipeline_->consumers[v]) {
    const auto stage = at(consumer.stage);
    if (next_[stage] == range_of(stage).end) continue;
    alive = std::min(alive, next_[stage] / consumer.reach.factor - consumer.reach.halo_rows);
  }
  const Range dead{gone_[v], std::max(alive, gone_[v])};
  gone_[v] = dead.end;
  return dead;
}

Result<Plan> make_plan(const Pipeline& p, std::int64_t height, std::int64_t width, Box box, const PlanLimits& limits) {
  Plan plan;
  plan.height = height;
  plan.width = width;
  plan.box = box;
  needed(p, height, box.rows, true, plan.rows);
  std::int64_t most_panels = 1;
  if (limits.panels) {
    const std::int64_t narrowest = limits.max_memory ? kNarrowPanel : kWidePanel;
    most_panels = std::max<std::int64_t>(1, box.columns.size() / narrowest);
  }
  const std::uint64_t cache = limits.cache ? limits.cache : largest_cache();
  const int least_rows = limits.strip > 0 ? limits.strip : least_full_strip(box.columns.size(), limits.threads);
  const std::uint64_t budget = limits.max_memory ? limits.max_memory : kSensibleMemory;

  double best_cost = 0;
  int best_strip = 0;
  std::int64_t best_panels = 0;
  std::uint64_t least = 0;
  int least_strip = 0;
  for (int strip : kStrips) {
    if (limits.strip > 0)
      strip = limits.strip;
    else if (strip > enough_rows(box.columns.size(), limits.threads))
      continue;
    plan.strip = strip;
    const RowCounts counts = count_rows(p, plan, strip);
    for (std::int64_t panels = 1;; panels = std::min(most_panels, panels + (panels + 1) / 2)) {
      const double cost = cost_of(p, box.columns.size(), panels, strip);
      lay_out(p, plan, counts, panels, limits);
      if (panels == 1 && strip > least_rows && rows_memory(plan, limits) > kCaches * cache) break;
      if (least == 0 || plan.memory < least) {
        least = plan.memory;
        least_strip = strip;
      }
      if (plan.memory <= budget) {
        if (best_strip == 0 || cost < best_cost) {
          best_cost = cost;
          best_strip = strip;
          best_panels = panels;
        }
        break;  // more panels with this strip cost more
      }
      if (panels == most_panels) break;
    }
    if (limits.strip > 0 || (best_panels == 1 && best_strip == strip)) break;
  }
  if (best_strip == 0) {
    if (limits.max_memory) {
      return Status(
          Code::memory_budget,
          "max_memory is " + bytes_text(limits.max_memory) + "; this call needs at least " + bytes_text(least), least);
    }
    best_strip = least_strip;
    best_panels = most_panels;
  }
  plan.strip = best_strip;
  lay_out(p, plan, count_rows(p, plan, best_strip), best_panels, limits);
  return Result<Plan>(std::move(plan));
}

}  // namespace fastsr
