// Convolution in one group with fp32 arithmetic: each thread sums 8 output channels of 4 neighbouring pixels (of 2
// where the kernel is wide), so that 6 loads feed 32 multiply-adds. The threads of a warp share their weights.
#include "cuda/grid.hpp"
#include "cuda/kernels.hpp"
#include "cuda/values.hpp"

namespace fastsr::cuda {
namespace {

constexpr int kInputs = 4;  // input channels that are read at once

FASTSR_HD void read4(const float* p, float (&v)[kInputs]) {
  const Vector16 all = *reinterpret_cast<const Vector16*>(p);
  v[0] = bits_float(all.x);
  v[1] = bits_float(all.y);
  v[2] = bits_float(all.z);
  v[3] = bits_float(all.w);
}

FASTSR_HD void read4(const Half* p, float (&v)[kInputs]) {
  const std::uint32_t* words = reinterpret_cast<const std::uint32_t*>(p);
  FASTSR_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    v[i] = to_float(Half{static_cast<std::uint16_t>(i % 2 == 0 ? words[i / 2] : words[i / 2] >> 16)});
  }
}

// Width: of the kernel.
template <class T, int Width>
struct DirectConv {
  static constexpr int kPixels = Width > 5 ? 2 : 4;  // as many as registers hold

  ConvArgs a;
  int groups_across = 0;  // of kPixels

  FASTSR_HD void operator()(int row, int item) const {
    const int y = a.part.row_begin + row, x0 = a.part.column_begin + item % groups_across * kPixels;
    const int k0 = item / groups_across * kChunk;
    float sums[kPixels][kChunk];
    FASTSR_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      FASTSR_UNROLL
      for (int k = 0; k < kChunk; ++k) sums[p][k] = a.bias[k0 + k];
    }
    const float* w =
        static_cast<const float*>(a.weights) + static_cast<std::int64_t>(k0) * a.kernel_h * a.x.pitch * Width;
    for (int ky = 0; ky < a.kernel_h; ++ky, w += a.x.pitch * Width * kChunk) {
      const int iy = y + ky - a.kernel_h / 2;
      if (iy < 0 || iy >= a.height) continue;
      add_row(pixel_of<T>(a.x, iy, a.x.first_column), x0, w, sums);
    }
    FASTSR_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      if (x0 + p < a.part.column_end) finish8<T>(a.steps, a.y, y, x0 + p, k0, sums[p], a.flags);
    }
  }

  FASTSR_HD void add_row(const T* from, int x0, const float* w, float (&sums)[kPixels][kChunk]) const {
    constexpr int kReads = kPixels + Width - 1;
    for (int c = 0; c < a.x.pitch; c += kInputs) {
      float in[kReads][kInputs];
      FASTSR_UNROLL
      for (int r = 0; r < kReads; ++r) {
        const int ix = x0 + r - Width / 2;
        if (ix >= 0 && ix < a.width && ix < a.part.column_end + Width / 2) {
          read4(from + static_cast<std::int64_t>(ix - a.x.first_column) * a.x.pitch + c, in[r]);
        } else {
          FASTSR_UNROLL
          for (int i = 0; i < kInputs; ++i) in[r][i] = 0.0f;
        }
      }
      FASTSR_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        FASTSR_UNROLL
        for (int kx = 0; kx < Width; ++kx, w += kChunk) {
          float weight[kChunk];
          read8(w, weight);
          FASTSR_UNROLL
          for (int p = 0; p < kPixels; ++p) {
            FASTSR_UNROLL
            for (int k = 0; k < kChunk; ++k) sums[p][k] = fused(weight[k], in[p + kx][i], sums[p][k]);
          }
        }
      }
    }
  }
};

template <class T, int Width>
Status launch(const ConvArgs& args, Stream stream) {
  constexpr int kPixels = DirectConv<T, Width>::kPixels;
  const int across = (args.part.column_end - args.part.column_begin + kPixels - 1) / kPixels;
  const int rows = args.part.row_end - args.part.row_begin;
  return launch_items(stream, rows, across * (args.y.pitch / kChunk), DirectConv<T, Width>{args, across});
}

template <class T>
Status launch(const ConvArgs& args, Stream stream) {
  switch (args.kernel_w) {
    case 1: return launch<T, 1>(args, stream);
    case 3: return launch<T, 3>(args, stream);
    case 5: return launch<T, 5>(args, stream);
    case 9: return launch<T, 9>(args, stream);
    default: return {Code::internal, "internal error: no direct convolution is this wide"};
  }
}

}  // namespace

Status convolve_direct(const ConvArgs& args, Stream stream) {
  return args.precision == Precision::fp16 ? launch<Half>(args, stream) : launch<float>(args, stream);
}

}  // namespace fastsr::cuda
