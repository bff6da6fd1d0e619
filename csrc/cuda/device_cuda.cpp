#include <cuda_runtime_api.h>

#include "cuda/device.hpp"

namespace fastsr::cuda {
namespace {

Status status_of(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  const std::string message = std::string("CUDA could not ") + what + ": " + cudaGetErrorString(error);
  return {error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::internal, message};
}

cudaStream_t stream_of(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(Event event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

std::string why_no_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) return "no NVIDIA driver, or one too old for this build";
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) return "no NVIDIA GPU";
  if (error != cudaSuccess) return std::string("no usable GPU: ") + cudaGetErrorString(error);
  int major = 0;
  const cudaError_t asked = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  if (asked == cudaSuccess && major < 8) {
    return "the GPU's compute capability is " + std::to_string(major) + ".x; 8.0 (Ampere) or newer is needed";
  }
  return "";
}

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties;
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    (void)cudaGetLastError();
    return "unknown";
  }
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
}

Result<MemoryInfo> memory_info() {
  std::size_t free = 0, total = 0;
  const Status status = status_of(cudaMemGetInfo(&free, &total), "say how much memory is free");
  if (!status.ok()) return status;
  return MemoryInfo{free, total};
}

Result<int> current_device() {
  int device = 0;
  const Status status = status_of(cudaGetDevice(&device), "say which device is current");
  if (!status.ok()) return status;
  return device;
}

Status use_device(int device) { return status_of(cudaSetDevice(device), "change to the network's device"); }

Block::~Block() {
  if (data_ == nullptr) return;
  if (place_ == Place::device) {
    (void)cudaFree(data_);
  } else {
    (void)cudaFreeHost(data_);
  }
}

Result<Block> Block::make(Place place, std::size_t bytes) {
  Block block;
  block.place_ = place;
  const cudaError_t error =
      place == Place::device ? cudaMalloc(&block.data_, bytes) : cudaMallocHost(&block.data_, bytes);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    block.data_ = nullptr;
    const char* where = place == Place::device ? "the GPU has no " : "the system has no ";
    const char* kind = place == Place::device ? " bytes free" : " bytes that the GPU can copy from and to";
    if (error == cudaErrorMemoryAllocation) {
      return Status(Code::out_of_memory, where + std::to_string(bytes) + kind);
    }
    return status_of(error, "allocate memory");
  }
  block.bytes_ = bytes;
  return Result<Block>(std::move(block));
}

OwnStream::~OwnStream() {
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_of(stream_));
}

Status OwnStream::make() {
  cudaStream_t stream = nullptr;
  FASTSR_TRY(status_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream"));
  stream_ = stream;
  return {};
}

OwnEvent::~OwnEvent() {
  if (event_ != nullptr) (void)cudaEventDestroy(event_of(event_));
}

Status OwnEvent::make() {
  cudaEvent_t event = nullptr;
  FASTSR_TRY(status_of(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "make an event"));
  event_ = event;
  return {};
}

Status copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream)), "copy to the GPU");
}

Status copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream) {
  return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream)), "copy from the GPU");
}

Status clear(void* at, std::size_t bytes, Stream stream) {
  return status_of(cudaMemsetAsync(at, 0, bytes, stream_of(stream)), "clear memory");
}

Status record(Event event, Stream stream) {
  return status_of(cudaEventRecord(event_of(event), stream_of(stream)), "record an event");
}

Status wait_on_stream(Stream stream, Event event) {
  return status_of(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "wait for an event");
}

Status wait_for(Event event) { return status_of(cudaEventSynchronize(event_of(event)), "finish its work"); }
Status wait_for_stream(Stream stream) { return status_of(cudaStreamSynchronize(stream_of(stream)), "finish its work"); }

}  // namespace fastsr::cuda
