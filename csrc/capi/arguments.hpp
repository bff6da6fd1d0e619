// From the structs of the C face to those of the engine, and what may be wrong with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/image.hpp"
#include "core/status.hpp"
#include "fastsr/fastsr.h"
#include "runtime/network.hpp"

namespace fastsr::capi {

Status null_pointer(const char* name);

// Refuses sizes that no version of a struct has.
Status check_size(std::size_t size, const char* name);
// Refuses members that a later version has and this one does not know, unless they are 0.
Status check_rest(const void* data, std::size_t known, std::size_t size, const char* name);

// Read a struct of any version; nullptr leaves the defaults. T begins with struct_size.
template <class T>
Status read_struct(const T* from, const char* name, T& to) {
  if (!from) return {};
  const std::size_t size = from->struct_size;
  FASTSR_TRY(check_size(size, name));
  FASTSR_TRY(check_rest(from, sizeof(T), size, name));
  std::memcpy(static_cast<void*>(&to), from, size < sizeof(T) ? size : sizeof(T));
  return {};
}

// Write as much of `from` as the caller's version has, and zeros where it has more.
template <class T>
Status write_struct(const T& from, const char* name, T* to) {
  if (!to) return null_pointer(name);
  const std::size_t size = to->struct_size;
  FASTSR_TRY(check_size(size, name));
  std::memset(static_cast<void*>(to), 0, size);
  std::memcpy(static_cast<void*>(to), &from, size < sizeof(T) ? size : sizeof(T));
  to->struct_size = size;
  return {};
}

Status read_pixel_type(std::uint32_t type, PixelType& out);
Status check_channels(const char* name, std::uint32_t channels);

// `need_pixels`: must there be any, or do only their shape and type count.
Status read_image(const fsr_image* image, const char* name, bool need_pixels, ImageView& out);

// What black and white mean, as floats that the engine works with; as in fastsr/pixels.py and backends/native.py.
Result<Mapping> mapping_of(PixelType type, double low, double high);

// The caller's progress callback as the engine's Monitor.
class Progress : public Monitor {
 public:
  Progress() = default;
  explicit Progress(const fsr_options& options) : function_(options.progress), user_(options.progress_user) {}
  Status progress(std::int64_t done, std::int64_t total) override;
  Monitor* if_any() { return function_ ? this : nullptr; }

 private:
  fsr_progress_function function_ = nullptr;
  void* user_ = nullptr;
};

}  // namespace fastsr::capi
