// The Python face of the engine: views of NumPy arrays in, typed errors out. No arithmetic here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "core/thread_pool.hpp"
#include "cpu/isa.hpp"
#include "runtime/model.hpp"
#include "runtime/network.hpp"

namespace py = pybind11;

namespace fastsr {
namespace {

const char* error_class(Code code) {
  switch (code) {
    case Code::ok: break;
    case Code::option: return "OptionError";
    case Code::shape: return "ShapeError";
    case Code::pixel_value: return "PixelValueError";
    case Code::memory_budget: return "MemoryBudgetError";
    case Code::model_file: return "ModelFileError";
    case Code::model_integrity: return "ModelIntegrityError";
    case Code::model_version: return "ModelVersionError";
    case Code::out_of_memory: return "BackendError";
    case Code::cancelled: return "BackendError";
    case Code::sequence: return "BackendError";
    case Code::file: return "ModelFileError";
    case Code::internal: return "BackendError";
  }
  return "FastSRError";
}

void check(const Status& status) {
  if (status.ok()) return;
  const py::object type = py::module_::import("fastsr.errors").attr(error_class(status.code()));
  const py::object error =
      status.code() == Code::memory_budget ? type(status.message(), status.least()) : type(status.message());
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

template <class T>
T take(Result<T> result) {
  if (!result.ok()) check(result.status());
  return std::move(result.value());
}

PixelType pixel_type(const py::dtype& dtype) {
  if (dtype.equal(py::dtype::of<std::uint8_t>())) return PixelType::u8;
  if (dtype.equal(py::dtype::of<std::uint16_t>())) return PixelType::u16;
  if (dtype.equal(py::dtype::of<std::int16_t>())) return PixelType::i16;
  if (dtype.equal(py::dtype::of<float>())) return PixelType::f32;
  throw py::type_error("pixels must be uint8, uint16, int16 or float32 in the machine's byte order");
}

py::dtype dtype_of(PixelType type) {
  switch (type) {
    case PixelType::u8: return py::dtype::of<std::uint8_t>();
    case PixelType::u16: return py::dtype::of<std::uint16_t>();
    case PixelType::i16: return py::dtype::of<std::int16_t>();
    case PixelType::f32: return py::dtype::of<float>();
  }
  return {};
}

// `data`: the array's bytes; the caller has made sure that they may be written where they will be.
ImageView view_of(const py::array& array, const void* data, int channels) {
  if (array.ndim() != 3 || array.shape(2) != channels) {
    throw py::value_error("pixels must be (height, width, " + std::to_string(channels) + ")");
  }
  ImageView view;
  view.data = static_cast<unsigned char*>(const_cast<void*>(data));
  view.type = pixel_type(array.dtype());
  view.height = array.shape(0);
  view.width = array.shape(1);
  view.channels = channels;
  view.row_stride = array.strides(0);
  view.pixel_stride = array.strides(1);
  view.channel_stride = array.strides(2);
  return view;
}

// An exception that a callback raised, kept until the engine has returned.
class Raised {
 public:
  template <class F>
  Status guard(F&& f) {
    try {
      f();
      return {};
    } catch (...) {
      error_ = std::current_exception();
      return {Code::cancelled, "a callback raised"};
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::exception_ptr error_;
};

// Looks for Ctrl-C and tells the caller's `progress(done, total)`, some twenty times a second.
class PythonMonitor : public Monitor {
 public:
  PythonMonitor(py::object callback, Raised& raised) : callback_(std::move(callback)), raised_(raised) {}

  Status progress(std::int64_t done, std::int64_t total) override {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(50) && done < total) return {};
    last_ = now;
    py::gil_scoped_acquire gil;
    return raised_.guard([&] {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!callback_.is_none()) callback_(done, total);
    });
  }

 private:
  py::object callback_;
  Raised& raised_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Rows from `read(y0, y1) -> (y1 - y0, width, channels)`.
class PythonSource : public RowSource {
 public:
  PythonSource(py::object read, PixelType type, std::int64_t width, int channels, Raised& raised)
      : read_(std::move(read)), type_(type), width_(width), channels_(channels), raised_(raised) {}

  Status rows(Range rows, Range columns, ImageView& view) override {
    py::gil_scoped_acquire gil;
    return raised_.guard([&] {
      held_ = py::array();  // or two strips would be alive at once
      held_ = read_(rows.begin, rows.end).cast<py::array>();
      if (held_.ndim() != 3 || held_.shape(0) != rows.size() || held_.shape(1) != width_ ||
          held_.shape(2) != channels_ || !held_.dtype().equal(dtype_of(type_))) {
        check({Code::shape, "read(" + std::to_string(rows.begin) + ", " + std::to_string(rows.end) + ") returned " +
                                py::str(held_.attr("shape")).cast<std::string>() + " pixels of type " +
                                py::str(held_.dtype()).cast<std::string>() + "; (" + std::to_string(rows.size()) +
                                ", " + std::to_string(width_) + ", " + std::to_string(channels_) +
                                ") of the image's type are needed"});
      }
      view = view_of(held_, held_.data(), channels_);
      view.data = view.at(0, columns.begin);
      view.width = columns.size();
    });
  }

 private:
  py::object read_;
  PixelType type_;
  std::int64_t width_;
  int channels_;
  Raised& raised_;
  py::array held_;
};

// Rows to `write(y0, rows)`; `rows` is valid during the call only.
class PythonSink : public RowSink {
 public:
  PythonSink(py::object write, PixelType type, int channels, Raised& raised)
      : write_(std::move(write)), type_(type), channels_(channels), raised_(raised) {}

  Status prepare(Range rows, Range columns, ImageView& view) override {
    py::gil_scoped_acquire gil;
    return raised_.guard([&] {
      const std::vector<py::ssize_t> shape{rows.size(), columns.size(), channels_};
      if (buffer_.ndim() != 3 || buffer_.shape(0) < shape[0] || buffer_.shape(1) != shape[1]) {
        buffer_ = py::array(dtype_of(type_), shape);
      }
      rows_ = rows;
      view = view_of(buffer_, buffer_.mutable_data(), channels_);
      view.height = rows.size();
    });
  }

  Status commit() override {
    py::gil_scoped_acquire gil;
    return raised_.guard(
        [&] { write_(rows_.begin, buffer_[py::slice(py::ssize_t{0}, py::ssize_t{rows_.size()}, py::ssize_t{1})]); });
  }

 private:
  py::object write_;
  PixelType type_;
  int channels_;
  Raised& raised_;
  py::array buffer_;
  Range rows_;
};

struct Options {
  int threads = 0;
  std::uint64_t max_memory = 0;
  int strip = 0;
};

using BoxTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;  // left, top, right, bottom
using MappingTuple = std::tuple<float, float, float, float, float, float>;

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

// Bytes that the callers' arrays take for each row of a strip: one strip of LR rows, one of SR rows.
std::uint64_t staging(const Graph& graph, std::int64_t width, PixelType type) {
  const auto scale = static_cast<std::uint64_t>(graph.scale);
  return static_cast<std::uint64_t>(width) * size_of(type) *
         (static_cast<std::uint64_t>(graph.channels) + scale * scale * static_cast<std::uint64_t>(graph.out_channels));
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
    case Algorithm::winograd: return "winograd";
    case Algorithm::winograd_int: return "winograd_int";
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

std::unique_ptr<Model> open_model(const py::bytes& bytes) {
  char* data = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) throw py::error_already_set();
  return take(Model::open(data, static_cast<std::size_t>(size)));
}

Network& network_of(Model& model, int scale, int channels, const std::string& isa, bool winograd, bool integers) {
  return *take(model.network(scale, channels, *take(select_isa(isa)), {winograd, integers}));
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
      .def(py::init(&open_model), py::arg("data"))
      .def_property_readonly("name", [](const Model& model) { return model.file().name; })
      .def_property_readonly("sha256", [](const Model& model) { return model.file().sha256; })
      .def("network", &network_of, py::arg("scale"), py::arg("channels"), py::arg("isa") = "",
           py::arg("winograd") = true, py::arg("integers") = false, py::return_value_policy::reference_internal);

  m.def("isa_levels", &isa_info, "ISA levels of this build, slowest first: whether usable, rows convolved so far.");
  m.def("selected_isa", [] { return take(select_isa(""))->name; }, "The level that a new network takes.");
  m.def("default_threads", &default_threads);
}
