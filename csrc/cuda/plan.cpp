#include "cuda/plan.hpp"

#include <algorithm>
#include <string>

namespace fastsr::cuda {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::int64_t kBandRows = 8192;         // of tables; each cut costs the halo's rows twice
constexpr std::int64_t kEnoughPixels = 1 << 17;  // of a strip, to keep a large GPU busy
constexpr std::int64_t kNarrowPanel = 16;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }
std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// What the strips' launches, and the panels' shared edges, cost as a factor of the work.
double cost_of(const Pipeline& p, std::int64_t width, std::int64_t panels, int strip) {
  const double edges = 1.0 + static_cast<double>((panels - 1) * p.halo_columns) / static_cast<double>(width);
  return edges * (1.0 + 8.0 / strip);
}

// The rows of a strip at which more no longer helps.
int enough_rows(std::int64_t width, std::int64_t height) {
  const std::int64_t rows = (kEnoughPixels + width - 1) / width;
  return static_cast<int>(std::min(height, (rows + kTensorRows - 1) / kTensorRows * kTensorRows));
}

// Fill in what depends on strip and panels.
void lay_out(const Pipeline& p, Plan& plan, const Limits& limits) {
  const Graph& graph = *p.graph;
  plan.pools.assign(at(p.pools), {});
  plan.table_offset.assign(p.pool_of.size(), 0);
  std::vector<std::size_t> rows(p.pool_of.size());
  std::int64_t most_in = 0;
  for (const Range& wanted : plan.bands) {
    std::vector<int> slots;
    const Band band = make_band(p, plan.height, wanted, plan.strip, slots);
    for (std::size_t i = 0; i < plan.pools.size(); ++i) plan.pools[i].slots = std::max(plan.pools[i].slots, slots[i]);
    for (std::size_t v = 0; v < rows.size(); ++v) rows[v] = std::max(rows[v], band.slots[v].size());
  }
  std::vector<Range> columns;
  for (std::int64_t i = 0; i < plan.panels; ++i) {
    needed(p, plan.width, plan.panel(i), false, columns);
    for (std::size_t v = 0; v < columns.size(); ++v) {
      Pool& pool = plan.pools[at(p.pool_of[v])];
      pool.columns = std::max(pool.columns, columns[v].size());
    }
    most_in = std::max(most_in, columns[0].size());
  }
  std::size_t bytes = 0;
  auto take = [&bytes](std::size_t size) {
    const std::size_t offset = bytes;
    bytes += aligned(size);
    return offset;
  };
  for (std::size_t v = 0; v < p.pool_of.size(); ++v) {
    plan.pools[at(p.pool_of[v])].pitch = padded(graph.value_channels(static_cast<int>(v)));
    plan.table_offset[v] = take(rows[v] * sizeof(std::int32_t));
  }
  for (Pool& pool : plan.pools) {
    pool.offset = take(at(pool.slots) * at(pool.elements()) * size_of(limits.precision));
  }
  plan.flags_offset = take(sizeof(Flags));
  plan.pinned_bytes = 2 * aligned(sizeof(Flags));
  plan.in_bytes = plan.out_bytes = 0;
  if (limits.staged) {
    const std::int64_t panel = (plan.box.columns.size() + plan.panels - 1) / plan.panels;
    const std::int64_t s = graph.scale;
    plan.in_bytes = aligned(at(plan.strip) * at(most_in) * at(graph.channels) * limits.pixel_bytes);
    plan.out_bytes = aligned(at(plan.strip) * at(panel * s * s) * at(graph.out_channels) * limits.pixel_bytes);
    for (std::size_t& offset : plan.in_offset) offset = take(plan.in_bytes);
    for (std::size_t& offset : plan.out_offset) offset = take(plan.out_bytes);
    plan.pinned_bytes += 2 * (plan.in_bytes + plan.out_bytes);
  }
  plan.device_bytes = bytes;
  plan.memory = plan.device_bytes + plan.pinned_bytes + limits.staging_per_row * at(plan.strip);
}

std::string bytes_text(std::uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

Band make_band(const Pipeline& p, std::int64_t height, Range rows, int strip, std::vector<int>& pool_slots) {
  Band band;
  band.rows = rows;
  needed(p, height, rows, true, band.needed);
  Schedule schedule(p, band.needed, stored_part(p, rows), strip);
  band.slots.resize(band.needed.size());
  for (std::size_t v = 0; v < band.slots.size(); ++v) band.slots[v].resize(at(band.needed[v].size()));
  pool_slots.assign(at(p.pools), 0);
  std::vector<std::vector<std::int32_t>> free(at(p.pools));  // last in, first out: recent rows are in the cache
  while (!schedule.done()) {
    for (std::size_t s = 0; s < p.stages.size(); ++s) {
      const Stage& stage = p.stages[s];
      const Range ready = schedule.ready(s);
      if (ready.size() == 0) continue;
      if (stage.value >= 0) {
        const std::size_t v = at(stage.value), pool = at(p.pool_of[v]);
        for (std::int64_t y = ready.begin; y < ready.end; ++y) {
          if (free[pool].empty()) free[pool].push_back(pool_slots[pool]++);
          band.slots[v][at(y - band.needed[v].begin)] = free[pool].back();
          free[pool].pop_back();
        }
      }
      schedule.made(s, ready);
      for (int input : stage.inputs) {
        const std::size_t v = at(input);
        const Range dead = schedule.take_dead(input);
        for (std::int64_t y = dead.begin; y < dead.end; ++y) {
          free[at(p.pool_of[v])].push_back(band.slots[v][at(y - band.needed[v].begin)]);
        }
      }
    }
  }
  return band;
}

Result<Plan> make_plan(const Pipeline& p, std::int64_t height, std::int64_t width, Box box, const Limits& limits) {
  Plan plan;
  plan.height = height;
  plan.width = width;
  plan.box = box;
  for (std::int64_t y = box.rows.begin; y < box.rows.end; y += kBandRows) {
    plan.bands.push_back({y, std::min(y + kBandRows, box.rows.end)});
  }
  const std::int64_t most_panels = limits.panels ? std::max<std::int64_t>(1, box.columns.size() / kNarrowPanel) : 1;
  Plan best, least;
  double best_cost = 0;
  const int first = limits.strip > 0 ? limits.strip : enough_rows(box.columns.size(), box.rows.size());
  for (int strip = first;; strip = strip / 2) {
    plan.strip = strip;
    for (std::int64_t panels = 1;; panels = std::min(most_panels, panels + (panels + 1) / 2)) {
      plan.panels = panels;
      lay_out(p, plan, limits);
      if (least.strip == 0 || plan.memory < least.memory) least = plan;
      const double cost = cost_of(p, box.columns.size(), panels, strip);
      if (limits.max_memory == 0 || plan.memory <= limits.max_memory) {
        if (best.strip == 0 || cost < best_cost) {
          best = plan;
          best_cost = cost;
        }
        break;  // more panels with this strip cost more
      }
      if (panels == most_panels) break;
    }
    if (strip == 1 || limits.strip > 0 || (best.strip == strip && best.panels == 1)) break;
  }
  if (best.strip == 0) {
    return Status(
        Code::memory_budget,
        "max_memory is " + bytes_text(limits.max_memory) + "; this call needs at least " + bytes_text(least.memory),
        least.memory);
  }
  return Result<Plan>(std::move(best));
}

}  // namespace fastsr::cuda
