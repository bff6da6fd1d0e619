#include "runtime/stream.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/thread_pool.hpp"

namespace fastsr {
namespace {

constexpr std::int64_t kEndless = std::int64_t{1} << 30;  // rows, while nobody knows how many there will be
constexpr int kMaxStrip = 64;

Box whole(std::int64_t height, std::int64_t width) { return {{0, height}, {0, width}}; }

Schedule endless_schedule(const Pipeline& p, int strip) {
  std::vector<Range> rows;
  needed(p, kEndless, {0, kEndless}, true, rows);
  return Schedule(p, std::move(rows), stored_part(p, {0, kEndless}), strip);
}

// How far the result is behind once the stream is full.
std::int64_t latency_of(const Pipeline& p, int strip) {
  Schedule schedule = endless_schedule(p, strip);
  const std::int64_t scale = p.graph->value_scale(p.result);
  std::int64_t latency = 0, loaded = 0;
  for (int full = 0; full < 2 + kTilePeriod; full += schedule.stored() > 0) {     // what tiles make repeats
    latency = std::max(latency, loaded + strip - 1 - schedule.stored() / scale);  // just before the next step
    for (std::size_t s = 0; s < p.stages.size(); ++s) schedule.made(s, schedule.ready(s));
    for (const std::size_t store = p.stages.size() - 1; schedule.ready(store).size() > 0;) {
      schedule.made(store, schedule.ready(store));
    }
    loaded += strip;
  }
  return latency;
}

ImageView spare_view(const Pipeline& p, const StreamOptions& options) {
  ImageView view;
  view.type = options.type;
  view.channels = p.graph->out_channels;
  view.height = p.store_factor > 1 ? p.store_factor : 0;
  view.width = options.width * p.graph->scale;
  view.channel_stride = static_cast<std::ptrdiff_t>(size_of(options.type));
  view.pixel_stride = view.channel_stride * view.channels;
  view.row_stride = view.pixel_stride * view.width;
  return view;
}

std::size_t floats_of(const ImageView& view) {
  return (static_cast<std::size_t>(view.row_stride * view.height) + sizeof(float) - 1) / sizeof(float);
}

ImageView rows_from(const ImageView& view, std::int64_t y) {
  ImageView rest = view;
  rest.data = view.at(y, 0);
  rest.height = view.height - y;
  return rest;
}

void copy_row(const ImageView& from, std::int64_t y, const ImageView& to, std::int64_t to_y) {
  const std::size_t size = size_of(from.type);
  for (std::int64_t x = 0; x < from.width; ++x) {
    for (int c = 0; c < from.channels; ++c) {
      std::memcpy(to.at(to_y, x) + c * to.channel_stride, from.at(y, x) + c * from.channel_stride, size);
    }
  }
}

// Let `all` have at least the rows of `one`, a plan for the same width.
void make_room(const Plan& one, Plan& all) {
  for (std::size_t pool = 0; pool < one.slots.size(); ++pool) {
    const int more = std::max(one.slots[pool] - all.slots[pool], 0);
    all.slots[pool] += more;
    all.memory += static_cast<std::size_t>(more) * all.slot_floats[pool] * sizeof(float);
  }
  for (std::size_t value = 0; value < one.ring.size(); ++value) {
    const int more = std::max(one.ring[value] - all.ring[value], 0);
    all.ring[value] += more;
    all.memory += static_cast<std::size_t>(more) * sizeof(float*);
  }
}

PlanLimits limits_of(const StreamOptions& options) {
  PlanLimits limits;
  limits.threads = options.threads > 0 ? options.threads : default_threads();
  limits.strip = options.strip;
  limits.panels = false;
  return limits;
}

}  // namespace

Result<StreamPlan> plan_stream(const Network& network, const StreamOptions& options) {
  if (options.strip < 1 || options.strip > kMaxStrip) {
    return Status(Code::option, "the strip is " + std::to_string(options.strip) + " rows; 1 to " +
                                    std::to_string(kMaxStrip) + " are possible");
  }
  const Pipeline& pipeline = network.pipeline();
  StreamPlan result;
  result.latency = latency_of(pipeline, options.strip);
  Request request;
  request.width = options.width;
  request.threads = limits_of(options).threads;
  request.strip = options.strip;
  request.panels = false;
  // Rows wait for at most `latency` rows below them and are read for as long again. Then the stream is full, and what
  // is alive repeats with every strip: no image needs more than one of these.
  const std::int64_t tallest = (2 * result.latency / options.strip + kTilePeriod) * options.strip;
  for (std::int64_t height = 1; height <= tallest; ++height) {
    request.height = height;
    request.box = whole(height, options.width);
    Result<Plan> plan = network.plan(request);
    if (!plan.ok()) return plan.status();
    if (height == 1) result.plan = plan.value();
    make_room(plan.value(), result.plan);
  }
  result.plan.height = kEndless;
  result.plan.box = whole(kEndless, options.width);
  needed(pipeline, kEndless, {0, kEndless}, true, result.plan.rows);
  result.memory = result.plan.memory + floats_of(spare_view(pipeline, options)) * sizeof(float);
  if (options.max_memory > 0 && result.memory > options.max_memory) {
    return Status(Code::memory_budget,
                  "max_memory is " + std::to_string(options.max_memory) + " bytes; this stream needs " +
                      std::to_string(result.memory) + " bytes",
                  result.memory);
  }
  return Result<StreamPlan>(std::move(result));
}

Result<std::unique_ptr<Stream>> Stream::make(Network& network, const StreamOptions& options) {
  Result<StreamPlan> plan = plan_stream(network, options);
  if (!plan.ok()) return plan.status();
  FASTSR_TRY(network.prepare());
  Result<std::unique_ptr<Session>> session = Session::make(network, std::move(plan.value().plan), limits_of(options));
  if (!session.ok()) return session.status();
  std::unique_ptr<Stream> stream(new Stream(network, options));
  stream->session_ = std::move(session.value());
  stream->request_.mapping = options.mapping;
  stream->spare_ = spare_view(network.pipeline(), options);
  if (!stream->spare_memory_.allocate(floats_of(stream->spare_))) {
    return Status(Code::out_of_memory, "there is no memory for rows that wait");
  }
  stream->spare_.data = reinterpret_cast<unsigned char*>(stream->spare_memory_.data());
  FASTSR_TRY(stream->session_->start(options.mapping, 0));
  return Result<std::unique_ptr<Stream>>(std::move(stream));
}

Stream::~Stream() {
  if (session_->orphaned()) (void)session_.release();  // joining threads that are not here would wait for ever
}

void Stream::reset() {
  session_->end_at(kEndless);
  (void)session_->start(options_.mapping, 0);  // worked in make(), with the same width
  loaded_ = 0;
  waiting_ = 0;
  ended_ = false;
  failed_ = false;
}

Status Stream::usable() const {
  if (failed_) return {Code::sequence, "an earlier call failed; the stream must be reset before it goes on"};
  if (session_->orphaned()) return {Code::sequence, "the stream was made by the parent process and cannot run here"};
  return {};
}

Status Stream::push(const ImageView& rows, std::int64_t& taken) {
  taken = 0;
  FASTSR_TRY(usable());
  if (ended_) return {Code::sequence, "the image has ended; after a reset, rows of a new image can be pushed"};
  if (rows.height > kEndless - loaded_) {
    return {Code::shape, "the image has more than " + std::to_string(kEndless) + " rows"};
  }
  failed_ = true;
  const Status status = load(rows, taken);
  failed_ = !status.ok();
  return status;
}

Status Stream::end() {
  FASTSR_TRY(usable());
  if (ended_) return {Code::sequence, "the image has already ended"};
  if (loaded_ == 0) return {Code::sequence, "the image has no rows yet"};
  ended_ = true;
  session_->end_at(loaded_);
  return {};
}

Status Stream::pull(const ImageView& rows, std::int64_t& given) {
  given = 0;
  FASTSR_TRY(usable());
  failed_ = true;
  const Status status = store(rows, given);
  failed_ = !status.ok();
  return status;
}

// The rows of the result's value that can be stored. While there are any, a step is not complete.
Range Stream::ready() const { return session_->schedule().ready(network_->pipeline().stages.size() - 1); }

Status Stream::load(const ImageView& rows, std::int64_t& taken) {
  ViewSource source(rows, loaded_, 0);
  request_.source = &source;
  const std::int64_t strip = options_.strip;
  while (taken < rows.height && waiting_ == 0 && ready().size() == 0) {
    const std::int64_t more = std::min(rows.height - taken, strip - loaded_ % strip);
    FASTSR_TRY(session_->advance(request_, 0, {loaded_, loaded_ + more}));
    loaded_ += more;
    taken += more;
    if (loaded_ % strip == 0) FASTSR_TRY(step());
  }
  return {};
}

// Every stage between loading and storing makes the rows that have become possible.
Status Stream::step() {
  const std::size_t store = network_->pipeline().stages.size() - 1;
  for (std::size_t s = 1; s < store; ++s) {
    const Range rows = session_->schedule().ready(s);
    if (rows.size() > 0) FASTSR_TRY(session_->advance(request_, s, rows));
  }
  if (!options_.monitor) return {};
  const Graph& graph = network_->graph();
  const std::int64_t done =
      session_->schedule().storable() * graph.scale / graph.value_scale(network_->pipeline().result);
  return options_.monitor->progress(done, ended_ ? loaded_ * graph.scale : 0);
}

Status Stream::store(const ImageView& rows, std::int64_t& given) {
  const std::size_t stage = network_->pipeline().stages.size() - 1;
  const std::int64_t factor = network_->pipeline().store_factor;
  while (given < rows.height) {
    if (waiting_ > 0) {
      copy_row(spare_, factor - waiting_--, rows, given++);
      continue;
    }
    Range part = ready();
    if (part.size() == 0) {
      if (!ended_ || session_->schedule().done()) return {};
      FASTSR_TRY(step());
      continue;
    }
    const std::int64_t room = (rows.height - given) / factor;
    part.end = std::min(part.end, part.begin + std::max<std::int64_t>(room, 1));
    ViewSink sink(room > 0 ? rows_from(rows, given) : spare_, part.begin * factor, 0);
    request_.sink = &sink;
    FASTSR_TRY(session_->advance(request_, stage, part));
    if (room > 0) {
      given += part.size() * factor;
    } else {
      waiting_ = factor;
    }
  }
  return {};
}

}  // namespace fastsr
