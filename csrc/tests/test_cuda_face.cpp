// The C and C++ faces of the GPU's back end, on the emulated GPU.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "fastsr/fastsr_cuda.hpp"
#include "tests/check.hpp"

namespace {

fsr_status status_of(const fsr::CudaNetwork& network, const fsr_image& from, const fsr_image& to,
                     const fsr_options& options) {
  try {
    const_cast<fsr::CudaNetwork&>(network).upscale(from, to, options);
  } catch (const fsr::Error& error) {
    CHECK(std::strlen(error.what()) > 0);
    return error.status();
  }
  return FSR_OK;
}

}  // namespace

int main(int, char** argv) {
  CHECK(std::strcmp(fsr_cuda_why_not(), "") == 0);
  fsr::Model model(argv[1]);
  fsr_cuda_network* none = nullptr;
  CHECK(fsr_cuda_open(model.get(), 7, 3, FSR_CUDA_FP32, &none) == FSR_ERROR_ARGUMENT && none == nullptr);
  CHECK(fsr_cuda_open(model.get(), 4, 3, 9, &none) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_cuda_open(nullptr, 4, 3, FSR_CUDA_FP32, &none) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_cuda_upscale(nullptr, nullptr, nullptr, nullptr, nullptr) == FSR_ERROR_ARGUMENT);
  fsr_cuda_close(nullptr);

  std::mt19937 random(1);
  std::vector<std::uint8_t> small(5 * 3 * 3), large(20 * 12 * 3), wanted(large.size());
  for (std::uint8_t& p : small) p = static_cast<std::uint8_t>(random());
  const fsr_image from = fsr::view(small.data(), 3, 5, 3), to = fsr::view(large.data(), 12, 20, 3);
  model.upscale(from, fsr::view(wanted.data(), 12, 20, 3));
  for (fsr_cuda_precision precision : {FSR_CUDA_FP32, FSR_CUDA_FP16}) {
    fsr::CudaNetwork network(model, 4, 3, precision);
    for (bool on_device : {false, true}) {
      std::fill(large.begin(), large.end(), std::uint8_t{0});
      CHECK(!(on_device ? network.upscale_device(from, to) : network.upscale(from, to)));
      for (std::size_t i = 0; i < large.size(); ++i) CHECK(std::abs(large[i] - wanted[i]) <= 1);
    }
    fsr_options options = fsr::default_options();
    options.max_memory = 100;
    CHECK(status_of(network, from, to, options) == FSR_ERROR_MEMORY_BUDGET);
    CHECK(status_of(network, from, fsr::view(large.data(), 12, 19, 3), fsr::default_options()) == FSR_ERROR_SHAPE);
    for (std::uint32_t other : {std::uint32_t{FSR_INT8}, 7u}) {
      options = fsr::default_options();
      options.precision = other;
      CHECK(status_of(network, from, to, options) == FSR_ERROR_ARGUMENT);
      CHECK(std::strstr(fsr_error_message(), "FSR_CUDA_FP16"));
    }
    options = fsr::default_options();
    options.progress = [](void*, std::uint64_t, std::uint64_t) { return 1; };
    CHECK(status_of(network, from, to, options) == FSR_ERROR_CANCELLED);
    CHECK(status_of(network, from, to, fsr::default_options()) == FSR_OK);
  }
}
