// fastsr_cuda.h for C++17, as fastsr.hpp is for fastsr.h.
//
//     fsr::CudaNetwork network(model, 4, 3, FSR_CUDA_FP16);
//     network.upscale(fsr::view(small.data(), 320, 180, 3), fsr::view(large.data(), 1280, 720, 3));
#ifndef FASTSR_FASTSR_CUDA_HPP
#define FASTSR_FASTSR_CUDA_HPP

#include <cstdint>
#include <memory>

#include "fastsr/fastsr.hpp"
#include "fastsr/fastsr_cuda.h"

namespace fsr {

// A network on the GPU. The model must outlive it.
class CudaNetwork {
 public:
  CudaNetwork(const Model& model, std::uint32_t scale, std::uint32_t channels, fsr_cuda_precision precision) {
    fsr_cuda_network* network = nullptr;
    check(fsr_cuda_open(model.get(), scale, channels, precision, &network));
    handle_.reset(network);
  }

  // Both return whether fp32 was needed instead of fp16.
  bool upscale(const fsr_image& source, const fsr_image& target, const fsr_options& options = default_options()) {
    std::uint32_t redone = 0;
    check(fsr_cuda_upscale(handle_.get(), &source, &target, &options, &redone));
    return redone != 0;
  }
  // Pixels in the device's memory; stream: a cudaStream_t.
  bool upscale_device(const fsr_image& source, const fsr_image& target, void* stream = nullptr,
                      const fsr_options& options = default_options()) {
    std::uint32_t redone = 0;
    check(fsr_cuda_upscale_device(handle_.get(), &source, &target, &options, stream, &redone));
    return redone != 0;
  }

 private:
  struct Close {
    void operator()(fsr_cuda_network* network) const { fsr_cuda_close(network); }
  };
  std::unique_ptr<fsr_cuda_network, Close> handle_;
};

}  // namespace fsr

#endif
