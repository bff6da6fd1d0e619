#include "capi/arguments.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fastsr::capi {
namespace {

constexpr std::size_t kLargestStruct = 4096;   // that any version may ever have
constexpr std::uint32_t kMostChannels = 8192;  // as in a .fsr file
constexpr double kSpan = 1e-30;                // of a value range, at least

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

struct Limits {
  double least, most;
};

Limits limits_of(PixelType type) {
  switch (type) {
    case PixelType::u8: return {0, 255};
    case PixelType::u16: return {0, 65535};
    case PixelType::i16: return {-32768, 32767};
    case PixelType::f32: break;
  }
  return {0, 1};
}

}  // namespace

Status null_pointer(const char* name) { return {Code::option, std::string(name) + " is a null pointer"}; }

Status check_size(std::size_t size, const char* name) {
  if (size >= sizeof size && size <= kLargestStruct) return {};
  return {Code::option,
          std::string(name) + ".struct_size is " + std::to_string(size) + "; the FSR_..._INIT of its type sets it"};
}

Status check_rest(const void* data, std::size_t known, std::size_t size, const char* name) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  if (size <= known || std::all_of(bytes + known, bytes + size, [](unsigned char b) { return b == 0; })) return {};
  return {Code::option,
          std::string(name) + " uses members that this version of the library, " + fsr_version() + ", does not know"};
}

Status read_pixel_type(std::uint32_t type, PixelType& out) {
  switch (type) {
    case FSR_UINT8: out = PixelType::u8; return {};
    case FSR_UINT16: out = PixelType::u16; return {};
    case FSR_INT16: out = PixelType::i16; return {};
    case FSR_FLOAT32: out = PixelType::f32; return {};
    default: return {Code::option, "the pixel type is " + std::to_string(type) + "; 1 to 4 are possible"};
  }
}

Status check_channels(const char* name, std::uint32_t channels) {
  if (channels >= 1 && channels <= kMostChannels) return {};
  return {Code::option, std::string(name) + " has " + std::to_string(channels) + " channels; 1 to " +
                            std::to_string(kMostChannels) + " are possible, 1 (grey) and 3 (RGB) are usual"};
}

Status read_image(const fsr_image* image, const char* name, bool need_pixels, ImageView& out) {
  if (!image) return null_pointer(name);
  fsr_image own = FSR_IMAGE_INIT;
  FASTSR_TRY(read_struct(image, name, own));
  if (need_pixels && !own.pixels) return null_pointer((std::string(name) + ".pixels").c_str());
  FASTSR_TRY(read_pixel_type(own.pixel_type, out.type));
  FASTSR_TRY(check_channels(name, own.channels));
  out.data = static_cast<unsigned char*>(own.pixels);
  out.width = own.width;
  out.height = own.height;
  out.channels = static_cast<int>(own.channels);
  out.channel_stride = own.channel_stride ? own.channel_stride : static_cast<std::ptrdiff_t>(size_of(out.type));
  out.pixel_stride =
      own.pixel_stride ? own.pixel_stride : static_cast<std::ptrdiff_t>(size_of(out.type)) * out.channels;
  out.row_stride =
      own.row_stride ? own.row_stride : static_cast<std::ptrdiff_t>(size_of(out.type)) * out.channels * out.width;
  return {};
}

Result<Mapping> mapping_of(PixelType type, double low, double high) {
  const bool integers = type != PixelType::f32;
  const Limits limits = limits_of(type);
  if (low == 0 && high == 0) {
    low = limits.least;
    high = limits.most;
  }
  const auto wrong = [&](const std::string& why) {
    return Status(Code::option, "the value range is " + number(low) + " to " + number(high) + "; " + why);
  };
  if (!(std::isfinite(low) && std::isfinite(high) && low < high)) {
    return wrong("two finite numbers, low < high, are needed");
  }
  const double span = high - low;
  const double largest = std::max(std::fabs(low), std::fabs(high)) * std::max(1.0, 1 / span);
  if (!(span > kSpan && span < 1 / kSpan && largest < 1 / kSpan)) {
    return wrong("it is too narrow, too wide or too far out for float32");
  }
  const double clamp_low = std::max(std::ceil(low), limits.least);
  const double clamp_high = std::min(std::floor(high), limits.most);
  if (integers && clamp_low > clamp_high) {
    return wrong("the pixels hold " + number(limits.least) + " to " + number(limits.most));
  }
  Mapping mapping;
  mapping.gain = static_cast<float>(1 / span);
  mapping.offset = static_cast<float>(-low / span);
  mapping.out_gain = static_cast<float>(span);
  mapping.out_offset = static_cast<float>(low);
  mapping.low = integers ? static_cast<float>(clamp_low) : 0;
  mapping.high = integers ? static_cast<float>(clamp_high) : 0;
  return mapping;
}

Status Progress::progress(std::int64_t done, std::int64_t total) {
  if (function_(user_, static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total)) == 0) return {};
  return {Code::cancelled, "the progress callback cancelled the call"};
}

}  // namespace fastsr::capi
