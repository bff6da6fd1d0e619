// FastSR from C++17: fastsr.h with owners for its handles and exceptions for its errors. Header only; nothing but the
// functions of fastsr.h is called, so any compiler goes with any build of the library.
//
//     fsr::Model model("fmen_x4.fsr");
//     model.upscale(fsr::view(small.data(), 320, 180), fsr::view(large.data(), 1280, 720));
//
//     fsr::Stream stream = model.stream(512, 1, FSR_UINT16);
//     std::uint32_t taken = stream.push(fsr::view(row, 512, 1));
//     while (std::uint32_t given = stream.pull(fsr::view(rows.data(), 2048, 4))) use(rows, given);
#ifndef FASTSR_FASTSR_HPP
#define FASTSR_FASTSR_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "fastsr/fastsr.h"

namespace fsr {

// A call that failed: what() is fsr_error_message().
class Error : public std::runtime_error {
 public:
  explicit Error(fsr_status status) : std::runtime_error(fsr_error_message()), status_(status) {}
  fsr_status status() const noexcept { return status_; }

 private:
  fsr_status status_;
};

// Throws Error unless the status is FSR_OK.
inline void check(fsr_status status) {
  if (status != FSR_OK) throw Error(status);
}

template <class T>
constexpr fsr_pixel_type pixel_type() {
  using Pixel = std::remove_const_t<T>;
  if constexpr (std::is_same_v<Pixel, std::uint8_t>) return FSR_UINT8;
  if constexpr (std::is_same_v<Pixel, std::uint16_t>) return FSR_UINT16;
  if constexpr (std::is_same_v<Pixel, std::int16_t>) return FSR_INT16;
  if constexpr (std::is_same_v<Pixel, float>) return FSR_FLOAT32;
}

inline fsr_options default_options() { return FSR_OPTIONS_INIT; }
inline fsr_model_options default_model_options() { return FSR_MODEL_OPTIONS_INIT; }

// (height, width, channels) pixels, or some rows of them, without gaps; set its strides where there are any. A view of
// const pixels must not be a target.
template <class T>
fsr_image view(T* pixels, std::uint32_t width, std::uint32_t height, std::uint32_t channels = 1) {
  fsr_image image = FSR_IMAGE_INIT;
  image.pixels = const_cast<std::remove_const_t<T>*>(pixels);
  image.width = width;
  image.height = height;
  image.channels = channels;
  image.pixel_type = pixel_type<T>();
  return image;
}

// An open stream, used by one thread at a time. See fsr_stream_push_rows() and its neighbours.
class Stream {
 public:
  explicit Stream(fsr_stream* handle) : handle_(handle) {}

  std::uint32_t push(const fsr_image& rows) {
    std::uint32_t taken = 0;
    check(fsr_stream_push_rows(handle_.get(), &rows, &taken));
    return taken;
  }
  std::uint32_t pull(const fsr_image& rows) {
    std::uint32_t given = 0;
    check(fsr_stream_pull_rows(handle_.get(), &rows, &given));
    return given;
  }
  void end() { check(fsr_stream_end(handle_.get())); }
  void reset() { check(fsr_stream_reset(handle_.get())); }
  fsr_stream* get() const noexcept { return handle_.get(); }

 private:
  struct Close {
    void operator()(fsr_stream* handle) const noexcept { fsr_stream_close(handle); }
  };
  std::unique_ptr<fsr_stream, Close> handle_;
};

// A loaded model; any number of threads may use it. Its streams may outlive it.
class Model {
 public:
  explicit Model(const std::string& path, const fsr_model_options& options = default_model_options()) {
    fsr_model* handle = nullptr;
    check(fsr_model_open_file(path.c_str(), &options, &handle));
    handle_.reset(handle);
  }
  Model(const void* bytes, std::size_t size, const fsr_model_options& options = default_model_options()) {
    fsr_model* handle = nullptr;
    check(fsr_model_open_memory(bytes, size, &options, &handle));
    handle_.reset(handle);
  }

  fsr_model_info info() const {
    fsr_model_info info = FSR_MODEL_INFO_INIT;
    check(fsr_model_get_info(handle_.get(), &info));
    return info;
  }
  void upscale(const fsr_image& source, const fsr_image& target, const fsr_options& options = default_options()) {
    check(fsr_upscale(handle_.get(), &source, &target, &options));
  }
  fsr_plan plan(const fsr_image& source, const fsr_options& options = default_options()) {
    fsr_plan plan = FSR_PLAN_INIT;
    check(fsr_upscale_plan(handle_.get(), &source, &options, &plan));
    return plan;
  }
  fsr_plan stream_plan(std::uint32_t width, std::uint32_t channels, fsr_pixel_type type,
                       const fsr_options& options = default_options()) {
    fsr_plan plan = FSR_PLAN_INIT;
    check(fsr_stream_plan(handle_.get(), width, channels, type, &options, &plan));
    return plan;
  }
  Stream stream(std::uint32_t width, std::uint32_t channels, fsr_pixel_type type,
                const fsr_options& options = default_options()) {
    fsr_stream* handle = nullptr;
    check(fsr_stream_open(handle_.get(), width, channels, type, &options, &handle));
    return Stream(handle);
  }
  void trim() noexcept { fsr_model_trim(handle_.get()); }
  fsr_model* get() const noexcept { return handle_.get(); }

 private:
  struct Close {
    void operator()(fsr_model* handle) const noexcept { fsr_model_close(handle); }
  };
  std::unique_ptr<fsr_model, Close> handle_;
};

}  // namespace fsr

#endif
