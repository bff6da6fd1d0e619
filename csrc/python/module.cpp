// The Python face of the engine: views of NumPy arrays in, typed errors out. No arithmetic here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>

#include "core/thread_pool.hpp"
#include "cpu/isa.hpp"
#include "python/arrays.hpp"
#include "python/png_filter.hpp"
#include "runtime/model.hpp"
#include "runtime/network.hpp"

namespace py = pybind11;

namespace fastsr {
namespace {

struct Options {
  int threads = 0;
  std::uint64_t max_memory = 0;
  int strip = 0;
};

Request make_request(std::int64_t height, std::int64_t width, const BoxTuple& box, const MappingTuple& mapping,
                     const Options& options) {
  Request r;
  r.height = height;
  r.width = width;
  r.box = {{std::get<1>(box), std::get<3>(box)}, {std::get<0>(box), std::get<2>(box)}};
  std::tie(r.mapping.gain, r.mapping.offset, r.mapping.out_gain, r.mapping.out_offset, r.mapping.low, r.mapping.high) =
      mapping;
  r.threads = options.threads;
  r.max_memory = options.max_memory;
  r.strip = options.strip;
  return r;
}

void run_released(Network& network, const Request& request, const Raised& raised) {
  Status status;
  {
    py::gil_scoped_release release;
    status = network.run(request);
  }
  raised.rethrow();
  check(status);
}

void run(Network& network, const py::array& source, py::array& target, std::int64_t height, std::int64_t width,
         std::pair<std::int64_t, std::int64_t> origin, const BoxTuple& box, const MappingTuple& mapping,
         const Options& options, const py::object& progress) {
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
  run_released(network, request, raised);
}

void stream(Network& network, const py::object& read, const py::object& write, const py::dtype& dtype,
            std::int64_t height, std::int64_t width, const MappingTuple& mapping, const Options& options,
            const py::object& progress) {
  const PixelType type = pixel_type(dtype);
  const Graph& graph = network.graph();
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
  run_released(network, request, raised);
}

py::dict plan(const Network& network, std::int64_t height, std::int64_t width, const BoxTuple& box,
              const Options& options) {
  const Request request = make_request(height, width, box, {}, options);
  Result<Plan> made = [&] {
    py::gil_scoped_release release;  // images of millions of rows take a while
    return network.plan(request);
  }();
  const Plan plan = take(std::move(made));
  py::dict result;
  result["memory"] = plan.memory;
  result["strip"] = plan.strip;
  result["panels"] = plan.panels;
  return result;
}

const char* name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::direct: return "direct";
    case Algorithm::direct_bf16: return "direct_bf16";
    case Algorithm::winograd: return "winograd";
    case Algorithm::winograd_int: return "winograd_int";
    case Algorithm::winograd9: return "winograd9";
    case Algorithm::winograd9_int: return "winograd9_int";
  }
  return "";
}

// How each convolution is computed.
py::dict algorithms(const Network& network) {
  py::dict result;
  for (const Node& node : network.graph().nodes) {
    if (node.op != NodeOp::conv) continue;
    result[node.name.c_str()] = name_of(node.algorithm);
  }
  return result;
}

BoxTuple reads(const Network& network, std::int64_t height, std::int64_t width, const BoxTuple& box) {
  const Box part =
      network.reads(height, width, {{std::get<1>(box), std::get<3>(box)}, {std::get<0>(box), std::get<2>(box)}});
  return {part.columns.begin, part.rows.begin, part.columns.end, part.rows.end};
}

std::unique_ptr<Model> open_model(const py::bytes& bytes, bool hashed) {
  char* data = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) throw py::error_already_set();
  return take(Model::open(data, static_cast<std::size_t>(size), hashed));
}

Network& network_of(Model& model, int scale, int channels, const std::string& isa, bool winograd, bool integers,
                    bool bf16) {
  return *take(model.network(scale, channels, *take(select_isa(isa)), {winograd, integers, bf16}));
}

// See undo_png_filters; returns the lines that were undone.
std::size_t undo_filters(const py::buffer& lines, const py::buffer& above, const py::buffer& out,
                         std::size_t pixel_bytes) {
  const py::buffer_info from = lines.request(), before = above.request(), to = out.request(true);
  const auto bytes = [](const py::buffer_info& info) { return static_cast<std::size_t>(info.size * info.itemsize); };
  const std::size_t size = bytes(before), count = size > 0 ? bytes(to) / size : 0;
  if (size == 0 || pixel_bytes == 0 || bytes(to) != count * size || bytes(from) != count * (size + 1)) {
    throw py::value_error("lines, the row above and the result do not fit together");
  }
  const py::gil_scoped_release release;
  return undo_png_filters(static_cast<const unsigned char*>(from.ptr), count, size, pixel_bytes,
                          static_cast<const unsigned char*>(before.ptr), static_cast<unsigned char*>(to.ptr));
}

py::dict isa_info() {
  py::dict levels;
  for (const IsaLevel& level : isa_levels()) {
    py::dict info;
    info["usable"] = level.usable;
    info["conv_rows"] = level.kernels->conv_rows->load();
    levels[level.kernels->name] = info;
  }
  return levels;
}

}  // namespace
}  // namespace fastsr

PYBIND11_MODULE(_native, m) {
  using namespace fastsr;
  m.doc() = "The native engine of FastSR. Use the fastsr package, not this module.";

  py::class_<Options>(m, "Options")
      .def(py::init(
               [](int threads, std::uint64_t max_memory, int strip) { return Options{threads, max_memory, strip}; }),
           py::arg("threads") = 0, py::arg("max_memory") = 0, py::arg("strip") = 0);

  py::class_<Network>(m, "Network")
      .def_property_readonly("scale", [](const Network& n) { return n.graph().scale; })
      .def_property_readonly("channels", [](const Network& n) { return n.graph().channels; })
      .def_property_readonly("out_channels", [](const Network& n) { return n.graph().out_channels; })
      .def_property_readonly("isa", [](const Network& n) { return n.kernels().name; })
      .def_property_readonly(
          "halo", [](const Network& n) { return std::make_pair(n.pipeline().halo_rows, n.pipeline().halo_columns); })
      .def_property_readonly("algorithms", &algorithms)
      .def("run", &run, py::arg("source"), py::arg("target"), py::arg("height"), py::arg("width"), py::arg("origin"),
           py::arg("box"), py::arg("mapping"), py::arg("options"), py::arg("progress") = py::none())
      .def("stream", &stream, py::arg("read"), py::arg("write"), py::arg("dtype"), py::arg("height"), py::arg("width"),
           py::arg("mapping"), py::arg("options"), py::arg("progress") = py::none())
      .def("reads", &reads, py::arg("height"), py::arg("width"), py::arg("box"))
      .def("release", &Network::release)
      .def("plan", &plan, py::arg("height"), py::arg("width"), py::arg("box"), py::arg("options"));

  py::class_<Model>(m, "Model")
      .def(py::init(&open_model), py::arg("data"), py::arg("hashed") = false)
      .def_property_readonly("name", [](const Model& model) { return model.file().name; })
      .def_property_readonly("sha256", [](const Model& model) { return model.file().sha256; })
      .def("network", &network_of, py::arg("scale"), py::arg("channels"), py::arg("isa") = "",
           py::arg("winograd") = true, py::arg("integers") = false, py::arg("bf16") = false,
           py::return_value_policy::reference_internal);

  m.def("undo_png_filters", &undo_filters, py::arg("lines"), py::arg("above"), py::arg("out"), py::arg("pixel_bytes"));
  m.def("isa_levels", &isa_info, "ISA levels of this build, slowest first: whether usable, rows convolved so far.");
  m.def("selected_isa", [] { return take(select_isa(""))->name; }, "The level that a new network takes.");
  m.def("default_threads", &default_threads);
}
