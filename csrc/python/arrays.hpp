// What the Python modules share: views of NumPy arrays, callbacks as sources and sinks, typed errors.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <string>
#include <tuple>
#include <vector>

#include "graph/graph.hpp"
#include "runtime/network.hpp"

namespace py = pybind11;

namespace fastsr {

inline const char* error_class(Code code) {
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

inline void check(const Status& status) {
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

inline PixelType pixel_type(const py::dtype& dtype) {
  if (dtype.equal(py::dtype::of<std::uint8_t>())) return PixelType::u8;
  if (dtype.equal(py::dtype::of<std::uint16_t>())) return PixelType::u16;
  if (dtype.equal(py::dtype::of<std::int16_t>())) return PixelType::i16;
  if (dtype.equal(py::dtype::of<float>())) return PixelType::f32;
  throw py::type_error("pixels must be uint8, uint16, int16 or float32 in the machine's byte order");
}

inline py::dtype dtype_of(PixelType type) {
  switch (type) {
    case PixelType::u8: return py::dtype::of<std::uint8_t>();
    case PixelType::u16: return py::dtype::of<std::uint16_t>();
    case PixelType::i16: return py::dtype::of<std::int16_t>();
    case PixelType::f32: return py::dtype::of<float>();
  }
  return {};
}

// `data`: the array's bytes; the caller has made sure that they may be written where they will be.
inline ImageView view_of(const py::array& array, const void* data, int channels) {
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

using BoxTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;  // left, top, right, bottom
using MappingTuple = std::tuple<float, float, float, float, float, float>;

// Bytes that the callers' arrays take for each row of a strip: one strip of LR rows, one of SR rows.
inline std::uint64_t staging(const Graph& graph, std::int64_t width, PixelType type) {
  const auto scale = static_cast<std::uint64_t>(graph.scale);
  return static_cast<std::uint64_t>(width) * size_of(type) *
         (static_cast<std::uint64_t>(graph.channels) + scale * scale * static_cast<std::uint64_t>(graph.out_channels));
}

}  // namespace fastsr
