#include <cinttypes>
#include <cstdio>
#include <string>

#include "capi/job.hpp"

namespace fastsr::capi {
namespace {

constexpr std::uint32_t kMostColumns = 1u << 30;

struct StreamJob {
  Job job;
  StreamOptions stream;
};

Status read_stream_job(fsr_model* model, std::uint32_t width, std::uint32_t channels, fsr_pixel_type type,
                       const fsr_options* options, StreamJob& to) {
  if (!model) return null_pointer("model");
  FASTSR_TRY(read_pixel_type(static_cast<std::uint32_t>(type), to.stream.type));
  FASTSR_TRY(check_channels("the stream", channels));
  if (width < 1 || width > kMostColumns) {
    return {Code::shape,
            "the width is " + std::to_string(width) + "; 1 to " + std::to_string(kMostColumns) + " are possible"};
  }
  FASTSR_TRY(read_job(*model, options, to.stream.type, static_cast<int>(channels), to.job));
  to.stream.width = width;
  to.stream.mapping = to.job.mapping;
  to.stream.threads = to.job.threads();
  to.stream.strip = to.job.options.strip_rows ? static_cast<int>(to.job.options.strip_rows) : 1;
  to.stream.max_memory = to.job.options.max_memory;
  return {};
}

Status plan(fsr_model* model, std::uint32_t width, std::uint32_t channels, fsr_pixel_type type,
            const fsr_options* options, fsr_plan* result) {
  StreamJob from;
  FASTSR_TRY(read_stream_job(model, width, channels, type, options, from));
  fsr_plan plan = from.job.plan();
  plan.strip_rows = static_cast<std::uint32_t>(from.stream.strip);
  Result<StreamPlan> wanted = plan_stream(*from.job.network, from.stream);
  if (wanted.ok()) {
    plan.memory = plan.memory_least = wanted.value().memory;
    plan.latency_rows = static_cast<std::uint32_t>(wanted.value().latency);
  } else {
    plan.memory_least = wanted.status().least();
  }
  FASTSR_TRY(write_struct(plan, "plan", result));
  return wanted.ok() ? Status() : wanted.status();
}

void log_open(const Log& log, const StreamJob& from, const Stream& stream) {
  char line[256];
  std::snprintf(line, sizeof line, "stream of %" PRId64 " columns, %d channels, x%d: %d threads, strips of %d rows",
                from.stream.width, stream.network().graph().channels, stream.network().graph().scale, stream.threads(),
                from.stream.strip);
  log.say(FSR_LOG_INFO, line);
  if (stream.threads() >= from.stream.threads) return;
  std::snprintf(line, sizeof line, "%d threads were asked for, the system gave %d", from.stream.threads,
                stream.threads());
  log.say(FSR_LOG_WARNING, line);
}

Status open(fsr_model* model, const StreamJob& from, fsr_stream& handle) {
  handle.model = model;
  handle.progress = Progress(from.job.options);
  StreamOptions options = from.stream;
  options.monitor = handle.progress.if_any();
  Result<std::unique_ptr<Stream>> made = Stream::make(*from.job.network, options);
  if (!made.ok()) return made.status();
  handle.stream = std::move(made.value());
  log_open(model->log, from, *handle.stream);
  return {};
}

// A view of rows that fit the stream, of the image (scale 1) or of the result.
Status read_rows(const fsr_stream& handle, const fsr_image* rows, bool result, ImageView& view) {
  FASTSR_TRY(read_image(rows, "rows", true, view));
  const StreamOptions& options = handle.stream->options();
  const Graph& graph = handle.stream->network().graph();
  const std::int64_t width = options.width * (result ? graph.scale : 1);
  if (view.width == width && view.channels == graph.channels && view.type == options.type) return {};
  if (view.width != width) {
    return {Code::shape, "the rows are " + std::to_string(view.width) + " pixels wide; the stream " +
                             (result ? "gives " : "takes ") + std::to_string(width)};
  }
  return {Code::shape, "the rows do not have the channels and pixel type that the stream was opened with"};
}

using Move = Status (Stream::*)(const ImageView&, std::int64_t&);

// Push or pull.
fsr_status move_rows(fsr_stream* handle, const fsr_image* rows, bool result, Move move, std::uint32_t* count) {
  if (count) *count = 0;
  return guarded(handle ? handle->model->log : Log{}, [&]() -> Status {
    if (!handle) return null_pointer("stream");
    if (!count) return null_pointer(result ? "given" : "taken");
    ImageView view;
    FASTSR_TRY(read_rows(*handle, rows, result, view));
    std::int64_t moved = 0;
    const Status status = ((*handle->stream).*move)(view, moved);
    *count = status.ok() ? static_cast<std::uint32_t>(moved) : 0;
    return status;
  });
}

}  // namespace
}  // namespace fastsr::capi

using namespace fastsr::capi;

fsr_status fsr_stream_plan(fsr_model* model, uint32_t width, uint32_t channels, fsr_pixel_type type,
                           const fsr_options* options, fsr_plan* result) {
  return guarded(model ? model->log : Log{}, [&]() -> fastsr::Status {
    const fastsr::BlockSourceScope scope(model ? model->blocks() : nullptr);
    return plan(model, width, channels, type, options, result);
  });
}

fsr_status fsr_stream_open(fsr_model* model, uint32_t width, uint32_t channels, fsr_pixel_type type,
                           const fsr_options* options, fsr_stream** stream) {
  if (stream) *stream = nullptr;
  return guarded(model ? model->log : Log{}, [&]() -> fastsr::Status {
    if (!stream) return null_pointer("stream");
    const fastsr::BlockSourceScope scope(model ? model->blocks() : nullptr);
    StreamJob job;
    FASTSR_TRY(read_stream_job(model, width, channels, type, options, job));
    Owned<fsr_stream> handle(make_handle<fsr_stream>(model->blocks()), {model->blocks()});
    if (!handle) return {fastsr::Code::out_of_memory, "there is no memory for the stream"};
    FASTSR_TRY(open(model, job, *handle));
    model->users.fetch_add(1, std::memory_order_relaxed);
    *stream = handle.release();
    return {};
  });
}

fsr_status fsr_stream_push_rows(fsr_stream* stream, const fsr_image* rows, uint32_t* taken) {
  return move_rows(stream, rows, false, &fastsr::Stream::push, taken);
}

fsr_status fsr_stream_pull_rows(fsr_stream* stream, const fsr_image* rows, uint32_t* given) {
  return move_rows(stream, rows, true, &fastsr::Stream::pull, given);
}

fsr_status fsr_stream_end(fsr_stream* stream) {
  return guarded(stream ? stream->model->log : Log{},
                 [&] { return stream ? stream->stream->end() : null_pointer("stream"); });
}

fsr_status fsr_stream_reset(fsr_stream* stream) {
  return guarded(stream ? stream->model->log : Log{}, [&]() -> fastsr::Status {
    if (!stream) return null_pointer("stream");
    stream->stream->reset();
    return {};
  });
}

void fsr_stream_close(fsr_stream* stream) {
  if (!stream) return;
  fsr_model* model = stream->model;
  destroy_handle(stream, model->blocks());
  leave(model);
}
