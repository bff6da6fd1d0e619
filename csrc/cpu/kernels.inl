// The kernels, once for all ISA levels. A level's source includes its vector header, defines FASTSR_LEVEL (the
// table's name) and the register blocking, and includes this file.
//
// Everything here has internal linkage, and of other inline functions only accessors are called, which -O3 (set for
// these files in every build) expands in place: code that was compiled for one level must never be chosen by the linker
// for another.

namespace fastsr {
namespace {

// Counts the calls of a kernel.
template <auto kernel, std::atomic<std::uint64_t>& calls, class Arguments>
void counted(const Arguments& arguments) {
  calls.fetch_add(1, std::memory_order_relaxed);
  kernel(arguments);
}

// ---- exp, sigmoid, tanh ----

// e^x to 2 units in the last place for |x| <= 87; beyond, the ends of that interval.
inline Vec exp_vec(Vec x) {
  x = min(max(x, broadcast(-87.0f)), broadcast(87.0f));
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
  const Vec biased = fma(x, broadcast(1.44269504088896341f), magic);
  const Vec n = sub(biased, magic);
  Vec r = fma(n, broadcast(-0.693359375f), x);  // ln 2 in two parts
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec p = broadcast(1.0f / 5040);  // Taylor: |r| <= ln(2) / 2
  p = fma(p, r, broadcast(1.0f / 720));
  p = fma(p, r, broadcast(1.0f / 120));
  p = fma(p, r, broadcast(1.0f / 24));
  p = fma(p, r, broadcast(1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return scale_by_power(p, biased);
}

inline Vec sigmoid_vec(Vec x) {
  const Vec one = broadcast(1.0f);
  return div(one, add(one, exp_vec(sub(broadcast(0.0f), x))));
}

// sigmoid to 2e-5, for results that become integers of some 500 steps: half the operations.
inline Vec coarse_sigmoid_vec(Vec x) {
  x = min(max(x, broadcast(-30.0f)), broadcast(30.0f));
  const Vec magic = broadcast(12582912.0f);
  const Vec biased = fma(x, broadcast(-1.44269504088896341f), magic);
  const Vec r = fma(sub(biased, magic), broadcast(0.693147180559945309f), x);  // e^-x = 2^n e^-r
  Vec p = fma(broadcast(1.0f / 24), r, broadcast(-1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(-1.0f));
  p = fma(p, r, broadcast(1.0f));
  const Vec one = broadcast(1.0f);
  return div(one, add(one, scale_by_power(p, biased)));
}

inline Vec tanh_vec(Vec x) {
  const Vec one = broadcast(1.0f);
  return sub(one, div(broadcast(2.0f), add(one, exp_vec(add(x, x)))));
}

// ---- steps ----

inline Vec operand_of(const BoundStep& s, int channel, std::int64_t x) {
  if (!s.other_bf16) return load(s.other + channel * s.other_pitch + x);
  const Cells pair = as_cells(load(s.other + channel / 2 * s.other_pitch + x));
  return channel % 2 == 0 ? bf16_even(pair) : bf16_odd(pair);
}

inline Vec apply_step(const BoundStep& s, Vec v, int channel, std::int64_t x) {
  const Vec zero = broadcast(0.0f);
  switch (s.op) {
    case StepOp::relu: return max(v, zero);
    case StepOp::leaky_relu: return where_positive(v, v, mul(v, broadcast(s.a)));
    case StepOp::prelu: return where_positive(v, v, mul(v, broadcast(s.tensor0[channel])));
    case StepOp::sigmoid: return sigmoid_vec(v);
    case StepOp::tanh: return tanh_vec(v);
    case StepOp::clip: return min(max(v, broadcast(s.a)), broadcast(s.b));
    case StepOp::affine: return fma(v, broadcast(s.tensor0[channel]), broadcast(s.tensor1[channel]));
    case StepOp::add: return add(v, operand_of(s, channel, x));
    case StepOp::mul: return mul(v, operand_of(s, channel, x));
  }
  return v;
}

inline Vec apply_steps(const BoundStep* steps, int count, Vec v, int channel, std::int64_t x) {
  for (int i = 0; i < count; ++i) v = apply_step(steps[i], v, channel, x);
  return v;
}

// Zero what a row's last vector wrote beyond `width`, which the next convolution reads as outside the image.
inline void clear_pad(float* y, std::ptrdiff_t pitch, int channels, std::int64_t width) {
  for (int c = 0; c < channels; ++c) {
    float* p = y + c * pitch + width;
    for (int i = 0; i < kRowPad; ++i) p[i] = 0.0f;
  }
}

// ---- convolution ----

// The steps of one block, on sums that are still in the first-level cache.
__attribute__((noinline)) void finish_block(const ConvRow& a, const ConvBlock& block, std::int64_t x, int vectors) {
  for (int k = block.k0; k < block.k0 + block.count; ++k) {
    for (int n = 0; n < vectors; ++n) {
      const std::int64_t at = x + n * Vec::kSize;
      float* y = a.y + k * a.y_pitch + at;
      store(y, apply_steps(a.steps, a.step_count, load(y), k, at));
    }
  }
}

// M output channels x N vectors of pixels in registers.
template <int M, int N>
void conv_block(const ConvRow& a, const ConvBlock& block, std::int64_t x) {
  const PackedConv& conv = *a.conv;
  const float* w = conv.weights.data() + block.weights;
  const float* bias = conv.bias.data() + block.k0;
  const int kw = conv.kernel_w;
  Vec acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = broadcast(bias[m]);
  }
  for (int ky = 0; ky < conv.kernel_h; ++ky) {
    if (a.rows[ky] == nullptr) {
      w += conv.c_per_group * kw * M;
      continue;
    }
    const float* plane = a.rows[ky] + block.c0 * a.x_pitch + x;
    for (int c = 0; c < conv.c_per_group; ++c, plane += a.x_pitch) {
      for (int kx = 0; kx < kw; ++kx, w += M) {
        const int by = kx - kw / 2, rest = by & 15;
        const float* from = plane + (by - rest);
        const Shift shift = shift_by(rest);
        Vec in[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
          in[n] = rest == 0 ? load(from + n * Vec::kSize) : load_shifted(from + n * Vec::kSize, shift);
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const Vec weight = broadcast(w[m]);
#pragma GCC unroll 16
          for (int n = 0; n < N; ++n) acc[m][n] = fma(weight, in[n], acc[m][n]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(a.y + (block.k0 + m) * a.y_pitch + x + n * Vec::kSize, acc[m][n]);
  }
  if (a.step_count > 0) finish_block(a, block, x, N);
}

using BlockFunction = void (*)(const ConvRow&, const ConvBlock&, std::int64_t);

// How many vectors of pixels go with M output channels: as many as the registers hold.
constexpr int vectors_for(int m) {
  int n = (kRegisters - 1) / (m + 1);
  return n > kMaxVectors ? kMaxVectors : n;
}

template <int M, int N = vectors_for(M)>
BlockFunction block_function(int vectors) {
  if constexpr (N > 1) {
    if (vectors < N) return block_function<M, N - 1>(vectors);
  }
  return &conv_block<M, N>;
}

template <int M = kMaxBlock>
BlockFunction pick(int m, int vectors, int* taken) {
  if constexpr (M > 1) {
    if (m < M) return pick<M - 1>(m, vectors, taken);
  }
  *taken = vectors < vectors_for(M) ? vectors : vectors_for(M);
  return block_function<M>(*taken);
}

void conv(const ConvRow& a) {
  // Pixels in stripes that stay in the first-level cache, for each all output channels.
  const std::int64_t stripe = static_cast<std::int64_t>(vectors_for(a.conv->blocks[0].count)) * Vec::kSize;
  for (std::int64_t x0 = a.x0; x0 < a.x1; x0 += stripe) {
    const std::int64_t x1 = x0 + stripe < a.x1 ? x0 + stripe : a.x1;
    for (const ConvBlock& block : a.conv->blocks) {
      for (std::int64_t x = x0; x < x1;) {
        int taken = 1;
        const int vectors = static_cast<int>((x1 - x + Vec::kSize - 1) / Vec::kSize);
        pick(block.count, vectors, &taken)(a, block, x);
        x += static_cast<std::int64_t>(taken) * Vec::kSize;
      }
    }
  }
  if (a.x1 == a.width) clear_pad(a.y, a.y_pitch, a.conv->channels, a.width);
}

// ---- the rest ----

void pointwise(const PointwiseRow& a) {
  for (int c = 0; c < a.channels; ++c) {
    for (std::int64_t x = 0; x < a.width; x += Vec::kSize) {
      store(a.y + c * a.y_pitch + x, apply_steps(a.steps, a.step_count, load(a.x + c * a.x_pitch + x), c, x));
    }
  }
  clear_pad(a.y, a.y_pitch, a.channels, a.width);
}

void resize(const ResizeRow& a) {
  float* middle = a.scratch + kRowPad;
  for (int c = 0; c < a.channels; ++c) {
    for (std::int64_t x = 0; x < a.x_width; x += Vec::kSize) {
      Vec v = mul(broadcast(a.row_weights[0]), load(a.rows[0] + c * a.x_pitch + x));
      for (int t = 1; t < a.taps; ++t) {
        v = fma(broadcast(a.row_weights[t]), load(a.rows[t] + c * a.x_pitch + x), v);
      }
      store(middle + x, v);
    }
    for (int i = 1; i <= kMaxTaps; ++i) {
      if (a.left) middle[-i] = middle[0];
      if (a.right) middle[a.x_width - 1 + i] = middle[a.x_width - 1];
    }
    float* y = a.y + c * a.y_pitch;
    for (int p = 0; p < a.factor; ++p) {
      const float* w = a.column_weights + p * a.taps;
      const float* x = middle + a.x_begin + a.column_start[p];
      for (std::int64_t i = p; i < a.width; i += a.factor, ++x) {
        float v = w[0] * x[0];
        for (int t = 1; t < a.taps; ++t) v = __builtin_fmaf(w[t], x[t], v);
        y[i] = v;
      }
    }
  }
  clear_pad(a.y, a.y_pitch, a.channels, a.width);
}

// ---- pixels in and out ----

template <class T>
inline float read_pixel(const unsigned char* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return static_cast<float>(value);
}

template <class T>
bool load_pixels(const LoadRow& a) {
  for (int c = 0; c < a.channels; ++c) {
    const unsigned char* p = a.pixels + c * a.channel_stride;
    float* y = a.y + c * a.y_pitch;
    for (std::int64_t x = 0; x < a.width; ++x) {
      y[x] = __builtin_fmaf(read_pixel<T>(p + x * a.pixel_stride), a.gain, a.offset);
    }
  }
  return true;
}

bool load_floats(const LoadRow& a) {
  float worst = 0.0f;  // becomes NaN when any pixel is NaN or infinite
  for (int c = 0; c < a.channels; ++c) {
    const unsigned char* p = a.pixels + c * a.channel_stride;
    float* y = a.y + c * a.y_pitch;
    for (std::int64_t x = 0; x < a.width; ++x) {
      const float v = read_pixel<float>(p + x * a.pixel_stride);
      worst += v * 0.0f;
      y[x] = __builtin_fmaf(v, a.gain, a.offset);
    }
  }
  return worst == 0.0f;
}

bool load_row(const LoadRow& a) {
  bool finite = true;
  switch (a.type) {
    case PixelType::u8: load_pixels<std::uint8_t>(a); break;
    case PixelType::u16: load_pixels<std::uint16_t>(a); break;
    case PixelType::i16: load_pixels<std::int16_t>(a); break;
    case PixelType::f32: finite = load_floats(a); break;
  }
  clear_pad(a.y, a.y_pitch, a.channels, a.width);
  return finite;
}

template <class T>
inline void write_pixel(unsigned char* p, T value) {
  __builtin_memcpy(p, &value, sizeof value);
}

constexpr int kStoreChunk = 64;
constexpr int kMaxInterleaved = 16;  // planes that are written pixel by pixel

// One pixel of the result, as its type has it: 1.5 * 2^23 added and taken away rounds half to even where |v| < 2^22.
template <class T>
struct Finish {
  const StoreRow& a;
  T operator()(float x) const {
    float v = __builtin_fmaf(x, a.gain, a.offset);
    v = v > a.low ? v : a.low;  // also where v is NaN
    v = v < a.high ? v : a.high;
    return static_cast<T>(static_cast<std::int32_t>((v + 12582912.0f) - 12582912.0f));
  }
};

template <>
struct Finish<float> {
  const StoreRow& a;
  float operator()(float x) const { return __builtin_fmaf(x, a.gain, a.offset); }
};

// Plane (c, dx) of the row's pixels: those of channel c at columns f x + dx.
inline const float* plane_of(const StoreRow& a, int c, int dx) {
  return a.x + static_cast<std::ptrdiff_t>((c * a.factor + a.dy) * a.factor + dx) * a.x_pitch;
}

// Pixels whose channels lie side by side, without gaps: N = factor * channels planes, each pixel's written together.
template <class T, int N>
void store_interleaved(const StoreRow& a) {
  alignas(64) T finished[N][kStoreChunk];
  for (std::int64_t x0 = 0; x0 < a.width; x0 += kStoreChunk) {
    const std::int64_t n = a.width - x0 < kStoreChunk ? a.width - x0 : kStoreChunk;
    for (int dx = 0; dx < a.factor; ++dx) {
      for (int c = 0; c < a.channels; ++c) {
        const float* x = plane_of(a, c, dx) + x0;
        T* to = finished[dx * a.channels + c];
        for (std::int64_t i = 0; i < n; ++i) to[i] = Finish<T>{a}(x[i]);
      }
    }
    unsigned char* p = a.pixels + x0 * N * static_cast<std::ptrdiff_t>(sizeof(T));
    for (std::int64_t i = 0; i < n; ++i) {
      T pixel[N];
      for (int m = 0; m < N; ++m) pixel[m] = finished[m][i];
      __builtin_memcpy(p + i * static_cast<std::ptrdiff_t>(sizeof pixel), pixel, sizeof pixel);
    }
  }
}

template <class T, int N = kMaxInterleaved>
void pick_interleaved(const StoreRow& a, int n) {
  if constexpr (N > 1) {
    if (n < N) return pick_interleaved<T, N - 1>(a, n);
  }
  store_interleaved<T, N>(a);
}

template <class T>
void store_pixels(const StoreRow& a) {
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  const int planes = a.factor * a.channels;
  const bool side_by_side = a.channel_stride == kSize && a.pixel_stride == a.channels * kSize;
  if (side_by_side && planes <= kMaxInterleaved) return pick_interleaved<T>(a, planes);
  for (int c = 0; c < a.channels; ++c) {
    for (int dx = 0; dx < a.factor; ++dx) {
      const float* x = plane_of(a, c, dx);
      unsigned char* p = a.pixels + c * a.channel_stride + dx * a.pixel_stride;
      for (std::int64_t i = 0; i < a.width; ++i) write_pixel<T>(p + i * a.pixel_stride * a.factor, Finish<T>{a}(x[i]));
    }
  }
}

void store_row(const StoreRow& a) {
  switch (a.type) {
    case PixelType::u8: store_pixels<std::uint8_t>(a); break;
    case PixelType::u16: store_pixels<std::uint16_t>(a); break;
    case PixelType::i16: store_pixels<std::int16_t>(a); break;
    case PixelType::f32: store_pixels<float>(a); break;
  }
}

}  // namespace
}  // namespace fastsr

// What products have in registers must stay there while transforms go on, so no function may be called between.
#define FASTSR_INLINE __attribute__((always_inline)) inline

#include "cpu/bf16.inl"
#include "cpu/shuffle.inl"
#include "cpu/tile_products.inl"
#include "cpu/tile_transforms.inl"
#include "cpu/winograd.inl"
#include "cpu/winograd9.inl"

namespace fastsr {
namespace {

std::atomic<std::uint64_t> conv_calls{0};

// A: products of integers; B: of bf16.
template <class A, class B, std::atomic<std::uint64_t>& calls>
constexpr Kernels make_kernels(const char* name, bool bf16_tiles = false) {
  return {name,
          kMaxBlock,
          kMaxTileBlock,
          kMaxPartBlock,
          bf16_tiles,
          counted<conv, calls, ConvRow>,
          counted<conv_bf16<B>, calls, Bf16Row>,
          copy_bf16,
          counted<winograd, calls, WinogradPiece>,
          counted<winograd_int<A>, calls, WinogradPiece>,
          counted<winograd9<InFloats>, calls, Winograd9Row>,
          counted<winograd9<A>, calls, Winograd9Row>,
          relayout,
          pack,
          pointwise,
          shuffle,
          resize,
          load_row,
          store_row,
          &calls};
}

}  // namespace

const Kernels FASTSR_LEVEL = make_kernels<InIntegers, InVectors<ByFloats>, conv_calls>(FASTSR_LEVEL_NAME);

#if defined(FASTSR_VNNI)
namespace {
std::atomic<std::uint64_t> vnni_calls{0};
}
const Kernels FASTSR_VNNI = make_kernels<InIntegersVnni, InVectors<ByFloats>, vnni_calls>(FASTSR_LEVEL_NAME "_vnni");
#endif

#if defined(FASTSR_BF16)
namespace {
std::atomic<std::uint64_t> bf16_calls{0}, amx_calls{0};
}
const Kernels FASTSR_BF16 = make_kernels<InIntegersVnni, InVectors<ByPairs>, bf16_calls>(FASTSR_LEVEL_NAME "_bf16");
const Kernels FASTSR_AMX = make_kernels<InIntegersVnni, InTiles<HardwareTiles>, amx_calls>("amx_bf16", true);
#endif

}  // namespace fastsr
