// The Python face of the GPU's back end. No arithmetic here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/network.hpp"
#include "graph/loader.hpp"
#include "python/arrays.hpp"
#include "python/dlpack.hpp"

#if defined(FASTSR_CUDA_EMULATED)
#include "cuda/emulated/device.hpp"
#include "cuda/emulated/queue.hpp"
#endif

namespace fastsr {
namespace {

struct Options {
  std::uint64_t max_memory = 0;
  int strip = 0;
};

void check_on_device(const Status& status) {
  if (status.code() == Code::out_of_memory) {
    const py::object error = py::module_::import("fastsr.errors").attr("DeviceMemoryError")(status.message());
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
    throw py::error_already_set();
  }
  check(status);
}

struct CudaModel {
  ModelFile file;
};

std::unique_ptr<CudaModel> open_model(const py::bytes& bytes) {
  char* data = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) throw py::error_already_set();
  auto model = std::make_unique<CudaModel>();
  model->file = take(load_model(data, static_cast<std::size_t>(size)));
  return model;
}

std::unique_ptr<cuda::Network> network_of(const CudaModel& model, int scale, int channels, const std::string& precision,
                                          bool slow) {
  if (precision != "fp32" && precision != "fp16") {
    check({Code::option, "precision is '" + precision + "'; fp32 or fp16 is needed"});
  }
  for (const Graph& graph : model.file.graphs) {
    if (graph.scale != scale || graph.channels != channels) continue;
    const auto wanted = precision == "fp16" ? cuda::Precision::fp16 : cuda::Precision::fp32;
    Result<std::unique_ptr<cuda::Network>> made = cuda::Network::make(model.file, graph, wanted, slow);
    check_on_device(made.ok() ? Status() : made.status());
    return std::move(made.value());
  }
  check(
      {Code::option, "the model has no x" + std::to_string(scale) + " for " + std::to_string(channels) + " channels"});
  return nullptr;
}

Request make_request(std::int64_t height, std::int64_t width, const BoxTuple& box, const MappingTuple& mapping,
                     const Options& options) {
  Request r;
  r.height = height;
  r.width = width;
  r.box = {{std::get<1>(box), std::get<3>(box)}, {std::get<0>(box), std::get<2>(box)}};
  std::tie(r.mapping.gain, r.mapping.offset, r.mapping.out_gain, r.mapping.out_offset, r.mapping.low, r.mapping.high) =
      mapping;
  r.max_memory = options.max_memory;
  r.strip = options.strip;
  return r;
}

py::dict run_released(cuda::Network& network, const Request& request, const cuda::OnDevice* pixels, PixelType type,
                      const Raised& raised) {
  Status status;
  cuda::Report report;
  {
    py::gil_scoped_release release;
    status = network.run(request, pixels, type, report);
  }
  raised.rethrow();
  check_on_device(status);
  py::dict result;
  result["redone"] = report.redone;
  result["memory"] = report.memory;
  result["strip"] = report.strip;
  result["panels"] = report.panels;
  return result;
}

py::dict run(cuda::Network& network, const py::array& source, py::array& target, std::int64_t height,
             std::int64_t width, std::pair<std::int64_t, std::int64_t> origin, const BoxTuple& box,
             const MappingTuple& mapping, const Options& options, const py::object& progress) {
  Request request = make_request(height, width, box, mapping, options);
  const Graph& graph = network.graph();
  const ImageView from = view_of(source, source.data(), graph.channels);
  const ImageView to = view_of(target, target.mutable_data(), graph.out_channels);
  if (from.type != to.type) throw py::type_error("source and target must have the same pixel type");
  ViewSource view_source(from, origin.first, origin.second);
  ViewSink view_sink(to, request.box.rows.begin * graph.scale, request.box.columns.begin * graph.scale);
  Raised raised;
  PythonMonitor monitor(progress, raised);
  request.source = &view_source;
  request.sink = &view_sink;
  request.monitor = &monitor;
  return run_released(network, request, nullptr, from.type, raised);
}

// (address, strides in bytes of rows, columns and channels)
using PixelsTuple = std::tuple<std::uintptr_t, std::tuple<std::int64_t, std::int64_t, std::int64_t>>;

cuda::DevicePixels pixels_of(const PixelsTuple& tuple, PixelType type) {
  cuda::DevicePixels pixels;
  pixels.data = reinterpret_cast<unsigned char*>(std::get<0>(tuple));
  pixels.type = type;
  std::tie(pixels.row_stride, pixels.pixel_stride, pixels.channel_stride) = std::get<1>(tuple);
  return pixels;
}

py::dict run_on_device(cuda::Network& network, const PixelsTuple& source, const PixelsTuple& target,
                       const py::dtype& dtype, std::int64_t height, std::int64_t width, const MappingTuple& mapping,
                       const Options& options, std::uintptr_t stream) {
  const PixelType type = pixel_type(dtype);
  cuda::OnDevice pixels;
  pixels.source = pixels_of(source, type);
  pixels.target = pixels_of(target, type);
  pixels.stream = reinterpret_cast<cuda::Stream>(stream);
  const Request request = make_request(height, width, {0, 0, width, height}, mapping, options);
  return run_released(network, request, &pixels, type, Raised());
}

void stream_rows(cuda::Network& network, const py::object& read, const py::object& write, const py::dtype& dtype,
                 std::int64_t height, std::int64_t width, const MappingTuple& mapping, const Options& options,
                 const py::object& progress) {
  const PixelType type = pixel_type(dtype);
  const Graph& graph = network.graph();
  if (network.precision() != cuda::Precision::fp32) {
    check({Code::option, "rows that were given cannot be computed again: only fp32 streams"});
  }
  Request request = make_request(height, width, {0, 0, width, height}, mapping, options);
  Raised raised;
  PythonSource source(read, type, width, graph.channels, raised);
  PythonSink sink(write, type, graph.out_channels, raised);
  PythonMonitor monitor(progress, raised);
  request.source = &source;
  request.sink = &sink;
  request.monitor = &monitor;
  request.panels = false;
  request.staging_per_row = staging(graph, width, type);
  run_released(network, request, nullptr, type, raised);
}

py::dict plan(const cuda::Network& network, std::int64_t height, std::int64_t width, const BoxTuple& box,
              const py::dtype& dtype, const Options& options) {
  const Request request = make_request(height, width, box, {}, options);
  const PixelType type = pixel_type(dtype);
  Result<cuda::Plan> made = [&] {
    py::gil_scoped_release release;
    return network.plan(request, false, type);
  }();
  const cuda::Plan plan = take(std::move(made));
  py::dict result;
  result["memory"] = plan.memory;
  result["strip"] = plan.strip;
  result["panels"] = plan.panels;
  return result;
}

BoxTuple reads(const cuda::Network& network, std::int64_t height, std::int64_t width, const BoxTuple& box) {
  const Box part =
      network.reads(height, width, {{std::get<1>(box), std::get<3>(box)}, {std::get<0>(box), std::get<2>(box)}});
  return {part.columns.begin, part.rows.begin, part.columns.end, part.rows.end};
}

}  // namespace
}  // namespace fastsr

PYBIND11_MODULE(_cuda, m) {
  using namespace fastsr;
  m.doc() = "FastSR's back end for NVIDIA GPUs. Use the fastsr package, not this module.";

  py::class_<Options>(m, "Options")
      .def(py::init([](std::uint64_t max_memory, int strip) { return Options{max_memory, strip}; }),
           py::arg("max_memory") = 0, py::arg("strip") = 0);

  py::class_<cuda::Network>(m, "Network")
      .def_property_readonly("scale", [](const cuda::Network& n) { return n.graph().scale; })
      .def_property_readonly("channels", [](const cuda::Network& n) { return n.graph().channels; })
      .def_property_readonly("out_channels", [](const cuda::Network& n) { return n.graph().out_channels; })
      .def_property_readonly("device", &cuda::Network::device)
      .def_property_readonly("weight_bytes", &cuda::Network::weight_bytes)
      .def("run", &run, py::arg("source"), py::arg("target"), py::arg("height"), py::arg("width"), py::arg("origin"),
           py::arg("box"), py::arg("mapping"), py::arg("options"), py::arg("progress") = py::none())
      .def("run_on_device", &run_on_device, py::arg("source"), py::arg("target"), py::arg("dtype"), py::arg("height"),
           py::arg("width"), py::arg("mapping"), py::arg("options"), py::arg("stream") = 0)
      .def("stream", &stream_rows, py::arg("read"), py::arg("write"), py::arg("dtype"), py::arg("height"),
           py::arg("width"), py::arg("mapping"), py::arg("options"), py::arg("progress") = py::none())
      .def("plan", &plan, py::arg("height"), py::arg("width"), py::arg("box"), py::arg("dtype"), py::arg("options"))
      .def("reads", &reads, py::arg("height"), py::arg("width"), py::arg("box"))
      .def("release", &cuda::Network::release);

  py::class_<CudaModel>(m, "Model")
      .def(py::init(&open_model), py::arg("data"))
      .def("network", &network_of, py::arg("scale"), py::arg("channels"), py::arg("precision"), py::arg("slow") = false,
           py::keep_alive<0, 1>());

  py::class_<DeviceArray, std::shared_ptr<DeviceArray>>(m, "DeviceArray")
      .def(py::init(&DeviceArray::make), py::arg("shape"), py::arg("dtype"))
      .def_property_readonly("shape", [](const DeviceArray& a) { return py::tuple(py::cast(a.shape())); })
      .def_property_readonly("dtype", &DeviceArray::dtype)
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::cuda_array_interface)
      .def("__dlpack__", &DeviceArray::dlpack, py::kw_only(), py::arg("stream") = py::none())
      .def("__dlpack_device__", &DeviceArray::dlpack_device)
      .def("get", &DeviceArray::get, "Return a copy as a NumPy array.")
      .def("set", &DeviceArray::set, "Copy from a NumPy array.", py::arg("array"));

  py::class_<ImportedArray>(m, "ImportedArray")
      .def(py::init<const py::capsule&>())
      .def_property_readonly("pointer", &ImportedArray::pointer)
      .def_property_readonly("on_device", &ImportedArray::on_device)
      .def_property_readonly("device", &ImportedArray::device)
      .def_property_readonly("shape", &ImportedArray::shape)
      .def_property_readonly("strides", &ImportedArray::strides)
      .def_property_readonly("type", &ImportedArray::type);

  m.def("why_no_device", &cuda::why_no_device, "Empty, or why no GPU can be used.");
  m.def("device_name", &cuda::device_name);
#if defined(FASTSR_CUDA_EMULATED)
  m.def("schedule", &cuda::emulated::schedule, py::arg("seed"));
  m.def("set_device_memory", &cuda::emulated::set_device_memory, py::arg("bytes"));
#endif
}
