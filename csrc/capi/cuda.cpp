#include <memory>
#include <string>

#include "capi/arguments.hpp"
#include "capi/handles.hpp"
#include "capi/report.hpp"
#include "cuda/network.hpp"
#include "fastsr/fastsr_cuda.h"

struct fsr_cuda_network {
  std::unique_ptr<fastsr::cuda::Network> network;
  fastsr::capi::Log log;
};

namespace fastsr::capi {
namespace {

Status open(const fsr_model* model, std::uint32_t scale, std::uint32_t channels, std::uint32_t precision,
            fsr_cuda_network** result) {
  if (!model) return null_pointer("model");
  if (!result) return null_pointer("network");
  if (precision != FSR_CUDA_FP32 && precision != FSR_CUDA_FP16) {
    return {Code::option, "precision is " + std::to_string(precision) + "; FSR_CUDA_FP32 or FSR_CUDA_FP16 is needed"};
  }
  const ModelFile& file = model->model->file();
  for (const Graph& graph : file.graphs) {
    if (static_cast<std::uint32_t>(graph.scale) != scale || static_cast<std::uint32_t>(graph.channels) != channels) {
      continue;
    }
    Result<std::unique_ptr<cuda::Network>> made =
        cuda::Network::make(file, graph, precision == FSR_CUDA_FP16 ? cuda::Precision::fp16 : cuda::Precision::fp32);
    if (!made.ok()) return made.status();
    *result = new fsr_cuda_network{std::move(made.value()), model->log};
    return {};
  }
  return {Code::option,
          "the model has no x" + std::to_string(scale) + " for " + std::to_string(channels) + " channels"};
}

cuda::DevicePixels pixels_of(const ImageView& view) {
  cuda::DevicePixels pixels;
  pixels.data = view.data;
  pixels.type = view.type;
  pixels.row_stride = view.row_stride;
  pixels.pixel_stride = view.pixel_stride;
  pixels.channel_stride = view.channel_stride;
  return pixels;
}

Status upscale(fsr_cuda_network* network, const fsr_image* source, const fsr_image* target, const fsr_options* options,
               bool on_device, void* stream, std::uint32_t* redone) {
  if (!network) return null_pointer("network");
  const Graph& graph = network->network->graph();
  ImageView from, to;
  FASTSR_TRY(read_image(source, "source", true, from));
  FASTSR_TRY(read_image(target, "target", true, to));
  fsr_options wanted = FSR_OPTIONS_INIT;
  FASTSR_TRY(read_struct(options, "options", wanted));
  if (wanted.precision != FSR_FP32) {
    return {Code::option, "options.precision is " + std::to_string(wanted.precision) +
                              "; on a GPU it is 0, and fsr_cuda_open() chooses FSR_CUDA_FP32 or FSR_CUDA_FP16"};
  }
  if (from.channels != graph.channels || to.channels != graph.out_channels || from.type != to.type ||
      to.height != from.height * graph.scale || to.width != from.width * graph.scale) {
    return {Code::shape,
            "source and target must have the network's channels and one pixel type, and the target must be " +
                std::to_string(graph.scale) + " times as high and wide as the source"};
  }
  Result<Mapping> mapping = mapping_of(from.type, wanted.value_low, wanted.value_high);
  if (!mapping.ok()) return mapping.status();
  ViewSource view_source(from, 0, 0);
  ViewSink view_sink(to, 0, 0);
  Progress progress(wanted);
  Request request;
  request.height = from.height;
  request.width = from.width;
  request.box = {{0, from.height}, {0, from.width}};
  request.mapping = mapping.value();
  request.max_memory = wanted.max_memory;
  request.source = &view_source;
  request.sink = &view_sink;
  request.monitor = progress.if_any();
  const cuda::OnDevice pixels = {pixels_of(from), pixels_of(to), stream};
  cuda::Report report;
  FASTSR_TRY(network->network->run(request, on_device ? &pixels : nullptr, from.type, report));
  if (redone) *redone = report.redone ? 1 : 0;
  return {};
}

}  // namespace
}  // namespace fastsr::capi

using namespace fastsr::capi;

const char* fsr_cuda_why_not() {
  static thread_local std::string reason;
  reason = fastsr::cuda::why_no_device();
  return reason.c_str();
}

fsr_status fsr_cuda_open(const fsr_model* model, uint32_t scale, uint32_t channels, uint32_t precision,
                         fsr_cuda_network** network) {
  if (network) *network = nullptr;
  return guarded(model ? model->log : Log{}, [&] { return open(model, scale, channels, precision, network); });
}

fsr_status fsr_cuda_upscale(fsr_cuda_network* network, const fsr_image* source, const fsr_image* target,
                            const fsr_options* options, uint32_t* redone) {
  if (redone) *redone = 0;
  return guarded(network ? network->log : Log{},
                 [&] { return upscale(network, source, target, options, false, nullptr, redone); });
}

fsr_status fsr_cuda_upscale_device(fsr_cuda_network* network, const fsr_image* source, const fsr_image* target,
                                   const fsr_options* options, void* stream, uint32_t* redone) {
  if (redone) *redone = 0;
  return guarded(network ? network->log : Log{},
                 [&] { return upscale(network, source, target, options, true, stream, redone); });
}

void fsr_cuda_close(fsr_cuda_network* network) { delete network; }
