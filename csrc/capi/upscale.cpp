#include <string>

#include "capi/job.hpp"

namespace fastsr::capi {
namespace {

Request request_for(const Job& job, const ImageView& source) {
  Request request;
  request.height = source.height;
  request.width = source.width;
  request.box = {{0, source.height}, {0, source.width}};
  request.mapping = job.mapping;
  request.threads = job.threads();
  request.max_memory = job.options.max_memory;
  return request;
}

Status check_target(const ImageView& source, const ImageView& target, std::int64_t scale) {
  if (target.channels != source.channels || target.type != source.type) {
    return {Code::shape, "source and target have different channels or pixel types"};
  }
  if (target.width == source.width * scale && target.height == source.height * scale) return {};
  return {Code::shape, "the target is " + std::to_string(target.width) + " x " + std::to_string(target.height) +
                           " pixels; for scale " + std::to_string(scale) + ", " + std::to_string(source.width * scale) +
                           " x " + std::to_string(source.height * scale) + " are needed"};
}

Status upscale(fsr_model* model, const fsr_image* source, const fsr_image* target, const fsr_options* options) {
  if (!model) return null_pointer("model");
  const BlockSourceScope scope(model->blocks());
  ImageView from, to;
  FASTSR_TRY(read_image(source, "source", true, from));
  FASTSR_TRY(read_image(target, "target", true, to));
  Job job;
  FASTSR_TRY(read_job(*model, options, from.type, from.channels, job));
  FASTSR_TRY(check_target(from, to, job.network->graph().scale));
  ViewSource view_source(from, 0, 0);
  ViewSink view_sink(to, 0, 0);
  Progress progress(job.options);
  Request request = request_for(job, from);
  request.source = &view_source;
  request.sink = &view_sink;
  request.monitor = progress.if_any();
  return job.network->run(request);
}

Status plan(fsr_model* model, const fsr_image* source, const fsr_options* options, fsr_plan* result) {
  if (!model) return null_pointer("model");
  const BlockSourceScope scope(model->blocks());
  ImageView from;
  FASTSR_TRY(read_image(source, "source", false, from));
  Job job;
  FASTSR_TRY(read_job(*model, options, from.type, from.channels, job));
  fsr_plan plan = job.plan();
  Request request = request_for(job, from);
  Result<Plan> wanted = job.network->plan(request);
  if (wanted.ok()) {
    plan.memory = wanted.value().memory;
    plan.strip_rows = static_cast<std::uint32_t>(wanted.value().strip);
    plan.panels = static_cast<std::uint32_t>(wanted.value().panels);
  }
  request.max_memory = 1;  // is refused, with the least that would do
  const Result<Plan> refused = job.network->plan(request);
  if (!refused.ok()) plan.memory_least = refused.status().least();
  FASTSR_TRY(write_struct(plan, "plan", result));
  return wanted.ok() ? Status() : wanted.status();
}

}  // namespace
}  // namespace fastsr::capi

using namespace fastsr::capi;

fsr_status fsr_upscale(fsr_model* model, const fsr_image* source, const fsr_image* target, const fsr_options* options) {
  return guarded(model ? model->log : Log{}, [&] { return upscale(model, source, target, options); });
}

fsr_status fsr_upscale_plan(fsr_model* model, const fsr_image* source, const fsr_options* options, fsr_plan* result) {
  return guarded(model ? model->log : Log{}, [&] { return plan(model, source, options, result); });
}
