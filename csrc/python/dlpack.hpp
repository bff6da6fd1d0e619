// Arrays on a device, taken from and given to other libraries by the DLPack protocol (its C structs, version 0, which
// all libraries understand).
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device.hpp"
#include "python/arrays.hpp"

namespace fastsr {

namespace dlpack {

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  std::uint8_t code;  // 0 signed, 1 unsigned, 2 floating
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; nullptr: dense
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

#if defined(FASTSR_CUDA_EMULATED)
constexpr std::int32_t kDeviceType = 1;  // the CPU
#else
constexpr std::int32_t kDeviceType = 2;  // CUDA
#endif

inline DataType data_type(PixelType type) {
  switch (type) {
    case PixelType::u8: return {1, 8, 1};
    case PixelType::u16: return {1, 16, 1};
    case PixelType::i16: return {0, 16, 1};
    case PixelType::f32: return {2, 32, 1};
  }
  return {};
}

}  // namespace dlpack

// Somebody's array on the device, from a DLPack capsule; gives it back when it goes.
class ImportedArray {
 public:
  explicit ImportedArray(const py::capsule& capsule) {
    if (std::string(capsule.name() ? capsule.name() : "") != "dltensor") {
      throw py::value_error("the DLPack capsule was used before");
    }
    tensor_ = capsule.get_pointer<dlpack::ManagedTensor>();
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  }
  ~ImportedArray() {
    if (tensor_->deleter != nullptr) tensor_->deleter(tensor_);
  }
  ImportedArray(const ImportedArray&) = delete;
  ImportedArray& operator=(const ImportedArray&) = delete;

  std::uintptr_t pointer() const {
    return reinterpret_cast<std::uintptr_t>(tensor_->tensor.data) + tensor_->tensor.byte_offset;
  }
  bool on_device() const { return tensor_->tensor.device.type == dlpack::kDeviceType; }
  int device() const { return tensor_->tensor.device.id; }
  std::vector<std::int64_t> shape() const {
    return {tensor_->tensor.shape, tensor_->tensor.shape + tensor_->tensor.ndim};
  }
  // In bytes.
  std::vector<std::int64_t> strides() const {
    std::vector<std::int64_t> strides(static_cast<std::size_t>(tensor_->tensor.ndim));
    std::int64_t dense = tensor_->tensor.dtype.bits / 8;
    for (std::size_t i = strides.size(); i-- > 0;) {
      strides[i] = tensor_->tensor.strides ? tensor_->tensor.strides[i] * (tensor_->tensor.dtype.bits / 8) : dense;
      dense *= tensor_->tensor.shape[i];
    }
    return strides;
  }
  // As in NumPy, such as "u1"; empty where NumPy has no such type.
  std::string type() const {
    const dlpack::DataType type = tensor_->tensor.dtype;
    if (type.code > 2 || type.lanes != 1 || type.bits % 8 != 0) return "";
    return std::string(1, "iuf"[type.code]) + std::to_string(type.bits / 8);
  }

 private:
  dlpack::ManagedTensor* tensor_ = nullptr;
};

// A dense array on the device that is ours: (height, width, channels), or (height, width).
class DeviceArray : public std::enable_shared_from_this<DeviceArray> {
 public:
  static std::shared_ptr<DeviceArray> make(std::vector<std::int64_t> shape, const py::dtype& dtype) {
    auto array = std::make_shared<DeviceArray>();
    array->type_ = pixel_type(dtype);
    array->shape_ = std::move(shape);
    std::size_t bytes = size_of(array->type_);
    for (std::int64_t side : array->shape_) bytes *= static_cast<std::size_t>(side);
    array->block_ = take(cuda::Block::make(cuda::Place::device, bytes));
    return array;
  }

  const std::vector<std::int64_t>& shape() const { return shape_; }
  py::dtype dtype() const { return dtype_of(type_); }
  std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(block_.data()); }

  py::dict cuda_array_interface() const {
    py::dict interface;
    interface["shape"] = py::tuple(py::cast(shape_));
    interface["typestr"] = dtype().attr("str");
    interface["data"] = py::make_tuple(pointer(), false);
    interface["version"] = 3;
    interface["strides"] = py::none();
    interface["stream"] = py::none();  // complete: nothing is left to wait for
    return interface;
  }

  py::capsule dlpack(const py::object&) {
    struct Exported {
      dlpack::ManagedTensor managed;
      std::shared_ptr<DeviceArray> owner;
    };
    auto* exported = new Exported{{}, shared_from_this()};
    dlpack::Tensor& tensor = exported->managed.tensor;
    tensor.data = block_.data();
    tensor.device = {dlpack::kDeviceType, device_};
    tensor.ndim = static_cast<std::int32_t>(shape_.size());
    tensor.dtype = dlpack::data_type(type_);
    tensor.shape = shape_.data();
    exported->managed.context = exported;
    exported->managed.deleter = [](dlpack::ManagedTensor* self) { delete static_cast<Exported*>(self->context); };
    return py::capsule(&exported->managed, "dltensor", [](PyObject* capsule) {
      if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // taken
      auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
      managed->deleter(managed);
    });
  }
  py::tuple dlpack_device() const { return py::make_tuple(dlpack::kDeviceType, device_); }

  // A copy on the host.
  py::array get() const {
    py::array host(dtype(), shape_);
    check(cuda::copy_to_host(host.mutable_data(), block_.data(), block_.bytes(), nullptr));
    check(cuda::wait_for_stream(nullptr));
    return host;
  }
  void set(const py::array& host) {
    if (!host.dtype().equal(dtype()) || host.ndim() != static_cast<py::ssize_t>(shape_.size()) ||
        !std::equal(shape_.begin(), shape_.end(), host.shape()) || !(host.flags() & py::array::c_style)) {
      throw py::value_error("a C-contiguous array of this array's shape and type is needed");
    }
    check(cuda::copy_to_device(block_.data(), host.data(), block_.bytes(), nullptr));
    check(cuda::wait_for_stream(nullptr));
  }

 private:
  PixelType type_ = PixelType::u8;
  std::vector<std::int64_t> shape_;
  cuda::Block block_;
  int device_ = take(cuda::current_device());
};

}  // namespace fastsr
