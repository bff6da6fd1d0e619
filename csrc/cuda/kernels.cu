// The kernels that need no memory in common: each thread makes some elements of the result on its own.
#include "cuda/grid.hpp"
#include "cuda/kernels.hpp"
#include "cuda/values.hpp"

namespace fastsr::cuda {
namespace {

int rows_of(const Part& part) { return part.row_end - part.row_begin; }
int columns_of(const Part& part) { return part.column_end - part.column_begin; }

// ---- convolution as it is defined, one element a thread ----

template <class T>
struct PlainConv {
  ConvArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x = a.part.column_begin + item / (a.y.pitch / kChunk);
    const int c = item % (a.y.pitch / kChunk) * kChunk;
    float v[kChunk];
    FASTSR_UNROLL
    for (int i = 0; i < kChunk; ++i) v[i] = c + i < a.y.channels ? sum(y, x, c + i) : 0.0f;
    finish8<T>(a.steps, a.y, y, x, c, v, a.flags);
  }

  FASTSR_HD float sum(int y, int x, int k) const {
    const int inputs = a.x.channels / a.groups, first = k / (a.y.channels / a.groups) * inputs;
    const float* w =
        static_cast<const float*>(a.weights) + static_cast<std::int64_t>(k) * inputs * a.kernel_h * a.kernel_w;
    float v = a.bias[k];
    for (int ky = 0; ky < a.kernel_h; ++ky) {
      const int iy = y + ky - a.kernel_h / 2;
      if (iy < 0 || iy >= a.height) continue;
      for (int c = 0; c < inputs; ++c) {
        for (int kx = 0; kx < a.kernel_w; ++kx) {
          const int ix = x + kx - a.kernel_w / 2;
          const float in = ix < 0 || ix >= a.width ? 0.0f : to_float(pixel_of<T>(a.x, iy, ix)[first + c]);
          v = fused(w[(c * a.kernel_h + ky) * a.kernel_w + kx], in, v);
        }
      }
    }
    return v;
  }
};

// ---- steps on their own ----

template <class T>
struct Pointwise {
  PointwiseArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int chunks = a.y.pitch / kChunk;
    const int y = a.part.row_begin + row, x = a.part.column_begin + item / chunks, c = item % chunks * kChunk;
    float v[kChunk];
    read8(pixel_of<T>(a.x, y, x) + c, v);
    finish8<T>(a.steps, a.y, y, x, c, v, a.flags);
  }
};

// ---- moving values ----

template <class T>
struct CopyChannels {
  CopyArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int n = a.clear_to - a.y_channel;
    const int y = a.part.row_begin + row, x = a.part.column_begin + item / n, c = item % n;
    T* to = pixel_of<T>(a.y, y, x) + a.y_channel + c;
    *to = c < a.count ? pixel_of<T>(a.x, y, x)[a.x_channel + c] : T{};
  }
};

template <class T>
struct Shuffle {
  ShuffleArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x = a.part.column_begin + item / a.y.pitch, c = item % a.y.pitch;
    const int f = a.factor;
    T* to = pixel_of<T>(a.y, y, x) + c;
    *to = c < a.y.channels ? pixel_of<T>(a.x, y / f, x / f)[(c * f + y % f) * f + x % f] : T{};
  }
};

template <class T>
struct Resize {
  ResizeArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x = a.part.column_begin + item / a.y.pitch, c = item % a.y.pitch;
    T* to = pixel_of<T>(a.y, y, x) + c;
    if (c >= a.y.channels) {
      *to = T{};
      return;
    }
    const int column_phase = x % a.factor;
    float v = 0.0f;
    for (int t = 0; t < a.taps; ++t) {
      const int ix = clamped(x / a.factor + a.start[column_phase] + t, 0, a.width - 1);
      const float m = column(y, ix, c), w = a.weights[column_phase][t];
      v = t == 0 ? w * m : fused(w, m, v);
    }
    write1(to, v, a.flags);
  }

  FASTSR_HD float column(int y, int ix, int c) const {
    const int phase = y % a.factor;
    float v = 0.0f;
    for (int t = 0; t < a.taps; ++t) {
      const int iy = clamped(y / a.factor + a.start[phase] + t, 0, a.height - 1);
      const float in = to_float(pixel_of<T>(a.x, iy, ix)[c]), w = a.weights[phase][t];
      v = t == 0 ? w * in : fused(w, in, v);
    }
    return v;
  }
};

// ---- pixels in and out ----

FASTSR_HD unsigned char* address_of(const DevicePixels& p, int y, int x, int c) {
  return p.data + (y - p.row) * p.row_stride + (x - p.column) * p.pixel_stride + c * p.channel_stride;
}

template <class T>
struct Load {
  LoadArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x = a.part.column_begin + item;
    T* to = pixel_of<T>(a.y, y, x);
    for (int c = 0; c < a.y.pitch; ++c) {
      if (c < a.y.channels) {
        write1(to + c, fused(pixel(address_of(a.pixels, y, x, c)), a.gain, a.offset), a.flags);
      } else {
        to[c] = T{};
      }
    }
  }

  FASTSR_HD float pixel(const unsigned char* p) const {
    switch (a.pixels.type) {
      case PixelType::u8: return static_cast<float>(*p);
      case PixelType::u16: return static_cast<float>(*reinterpret_cast<const std::uint16_t*>(p));
      case PixelType::i16: return static_cast<float>(*reinterpret_cast<const std::int16_t*>(p));
      case PixelType::f32: break;
    }
    const float v = *reinterpret_cast<const float*>(p);
    if (v * 0.0f != 0.0f) a.flags->input = 1;  // NaN and infinity become NaN
    return v;
  }
};

template <class T>
struct Store {
  StoreArgs a;

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x = a.part.column_begin + item, f = a.factor;
    const T* from = pixel_of<T>(a.x, y / f, x / f);
    for (int c = 0; c < a.channels; ++c) {
      const float v = fused(to_float(from[(c * f + y % f) * f + x % f]), a.gain, a.offset);
      write(address_of(a.pixels, y, x, c), v);
    }
  }

  FASTSR_HD void write(unsigned char* p, float v) const {
    if (a.pixels.type == PixelType::f32) {
      *reinterpret_cast<float*>(p) = v;
      return;
    }
    v = v > a.low ? v : a.low;  // also where v is NaN
    v = v < a.high ? v : a.high;
    // Adding and taking away 1.5 * 2^23 rounds half to even where |v| < 2^22.
    const int rounded = static_cast<int>((v + 12582912.0f) - 12582912.0f);
    switch (a.pixels.type) {
      case PixelType::u8: *p = static_cast<unsigned char>(rounded); break;
      case PixelType::u16: *reinterpret_cast<std::uint16_t*>(p) = static_cast<std::uint16_t>(rounded); break;
      case PixelType::i16: *reinterpret_cast<std::int16_t*>(p) = static_cast<std::int16_t>(rounded); break;
      case PixelType::f32: break;
    }
  }
};

template <template <class> class Kernel, class Args>
Status launch(const Args& args, int items_per_column, Stream stream) {
  const int rows = rows_of(args.part), items = columns_of(args.part) * items_per_column;
  if (args.precision == Precision::fp16) return launch_items(stream, rows, items, Kernel<Half>{args});
  return launch_items(stream, rows, items, Kernel<float>{args});
}

}  // namespace

Status convolve(const ConvArgs& args, Stream stream) {
  switch (args.kind) {
    case ConvKind::plain: break;
    case ConvKind::direct: return convolve_direct(args, stream);
    case ConvKind::tensor: return convolve_tensor(args, stream);
  }
  return launch<PlainConv>(args, args.y.pitch / kChunk, stream);
}

Status apply(const PointwiseArgs& args, Stream stream) {
  return launch<Pointwise>(args, args.y.pitch / kChunk, stream);
}

Status copy_channels(const CopyArgs& args, Stream stream) {
  return launch<CopyChannels>(args, args.clear_to - args.y_channel, stream);
}

Status shuffle(const ShuffleArgs& args, Stream stream) { return launch<Shuffle>(args, args.y.pitch, stream); }
Status resize(const ResizeArgs& args, Stream stream) { return launch<Resize>(args, args.y.pitch, stream); }
Status load(const LoadArgs& args, Stream stream) { return launch<Load>(args, 1, stream); }
Status store(const StoreArgs& args, Stream stream) { return launch<Store>(args, 1, stream); }

}  // namespace fastsr::cuda
