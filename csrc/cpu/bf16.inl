// Convolution of bf16 values, once for all ISA levels: included by kernels.inl.

namespace fastsr {
namespace {

static_assert(kBf16Stripe % Vec::kSize == 0 && kBf16Stripe % (2 * kTileColumns) == 0, "a stripe is whole blocks");

// ---- sums of a stripe: sums[k][columns] ----

// Products of pairs by two multiply-adds.
struct ByFloats {
  static Vec dot(Cells a, Cells b, Vec sum) {
    return fma(bf16_even(a), bf16_even(b), fma(bf16_odd(a), bf16_odd(b), sum));
  }
};

#if defined(FASTSR_BF16)
struct ByPairs {
  static Vec dot(Cells a, Cells b, Vec sum) { return dot_bf16(a, b, sum); }
};
#endif

// M output channels x N vectors of pixels in registers.
template <class A, int M, int N>
void bf16_block(const Bf16Row& a, const ConvBlock& block, std::int64_t x, float* sums) {
  const PackedBf16& conv = *a.conv;
  const Cell* w = reinterpret_cast<const Cell*>(conv.weights.data()) + block.weights;
  Vec acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = broadcast(0.0f);
  }
  for (int ky = 0; ky < conv.kernel_h; ++ky) {
    if (a.rows[ky] == nullptr) {
      w += conv.inputs * conv.kernel_w * M;
      continue;
    }
    const float* plane = a.rows[ky] + x;
    for (int c = 0; c < conv.inputs; ++c, plane += a.x_pitch) {
      for (int kx = 0; kx < conv.kernel_w; ++kx, w += M) {
        const int by = kx - conv.kernel_w / 2, rest = by & 15;
        const float* from = plane + (by - rest);
        const Shift shift = shift_by(rest);
        Cells in[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
          in[n] = as_cells(rest == 0 ? load(from + n * Vec::kSize) : load_shifted(from + n * Vec::kSize, shift));
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const Cells weight = broadcast_cell(w[m]);
#pragma GCC unroll 16
          for (int n = 0; n < N; ++n) acc[m][n] = A::dot(weight, in[n], acc[m][n]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(sums + (block.k0 + m) * kBf16Stripe + n * Vec::kSize, acc[m][n]);
  }
}

using Bf16Function = void (*)(const Bf16Row&, const ConvBlock&, std::int64_t, float*);

template <class A, int M, int N = vectors_for(M)>
Bf16Function bf16_function(int vectors) {
  if constexpr (N > 1) {
    if (vectors < N) return bf16_function<A, M, N - 1>(vectors);
  }
  return &bf16_block<A, M, N>;
}

template <class A, int M = kMaxBlock>
Bf16Function pick_bf16(int m, int vectors, int* taken) {
  if constexpr (M > 1) {
    if (m < M) return pick_bf16<A, M - 1>(m, vectors, taken);
  }
  *taken = vectors < vectors_for(M) ? vectors : vectors_for(M);
  return bf16_function<A, M>(*taken);
}

template <class A>
struct InVectors {
  static void begin(const PackedBf16&) {}
  static void end() {}
  static void sums(const Bf16Row& a, std::int64_t x0, std::int64_t x1, float* to) {
    for (const ConvBlock& block : a.conv->blocks) {
      for (std::int64_t x = x0; x < x1;) {
        int taken = 1;
        const int vectors = static_cast<int>((x1 - x + Vec::kSize - 1) / Vec::kSize);
        pick_bf16<A>(block.count, vectors, &taken)(a, block, x, to + (x - x0));
        x += static_cast<std::int64_t>(taken) * Vec::kSize;
      }
    }
  }
};

// By AMX, or what stands for it. Tiles 0 to 3 are sums, [output channel][pixel], of two tiles of channels and two of
// pixels; 4 and 5 weights, [output channel][cell]; 6 and 7 pixels, [cell][pixel].
template <class Tiles>
struct InTiles {
  static void begin(const PackedBf16& conv) { Tiles::configure(conv.tiles.channels, conv.tiles.cells); }
  static void end() { Tiles::release(); }
  static void sums(const Bf16Row& a, std::int64_t x0, std::int64_t x1, float* to) {
    const PackedBf16& conv = *a.conv;
    const Cell* weights = reinterpret_cast<const Cell*>(conv.weights.data());
    const std::ptrdiff_t tile = std::ptrdiff_t{conv.tiles.channels} * conv.tiles.cells;
    const std::ptrdiff_t of_channels = tile * conv.tiles.cell_tiles * conv.kernel_h * conv.kernel_w;
    for (int m = 0; m < conv.tiles.channel_tiles; m += 2) {
      const bool two = m + 1 < conv.tiles.channel_tiles;
      for (std::int64_t x = x0; x < x1; x += 2 * kTileColumns) {
        const bool wide = x + kTileColumns < x1;
        block(a, weights + m * of_channels, tile, of_channels, x, two, wide);
        float* sums = to + (x - x0);
        const int k0 = conv.tiles.first_channel(m, conv.channels);
        Tiles::template store<0>(sums + k0 * kBf16Stripe, kBf16Stripe);
        if (wide) Tiles::template store<1>(sums + k0 * kBf16Stripe + kTileColumns, kBf16Stripe);
        if (!two) continue;
        const int k1 = conv.tiles.first_channel(m + 1, conv.channels);
        Tiles::template store<2>(sums + k1 * kBf16Stripe, kBf16Stripe);
        if (wide) Tiles::template store<3>(sums + k1 * kBf16Stripe + kTileColumns, kBf16Stripe);
      }
    }
  }

 private:
  static void block(const Bf16Row& a, const Cell* w, std::ptrdiff_t tile, std::ptrdiff_t next, std::int64_t x, bool two,
                    bool wide) {
    const PackedBf16& conv = *a.conv;
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    Tiles::template zero<2>();
    Tiles::template zero<3>();
    for (int p = 0; p < conv.tiles.cell_tiles; ++p) {
      const std::ptrdiff_t first = conv.tiles.first_cell(p, conv.inputs) * a.x_pitch;
      for (int ky = 0; ky < conv.kernel_h; ++ky) {
        if (a.rows[ky] == nullptr) {
          w += tile * conv.kernel_w;
          continue;
        }
        for (int kx = 0; kx < conv.kernel_w; ++kx, w += tile) {
          const float* from = a.rows[ky] + first + x + kx - conv.kernel_w / 2;
          Tiles::template load<6>(from, a.x_pitch);
          Tiles::template load<4>(w, conv.tiles.cells);
          Tiles::template multiply<0, 4, 6>();
          if (wide) {
            Tiles::template load<7>(from + kTileColumns, a.x_pitch);
            Tiles::template multiply<1, 4, 7>();
          }
          if (!two) continue;
          Tiles::template load<5>(w + next, conv.tiles.cells);
          Tiles::template multiply<2, 5, 6>();
          if (wide) Tiles::template multiply<3, 5, 7>();
        }
      }
    }
  }
};

// ---- the rest ----

inline void finish_bf16(const Bf16Row& a, std::int64_t x0, std::int64_t x1, const float* sums) {
  const PackedBf16& conv = *a.conv;
  for (int k = 0; k < conv.channels; k += 2) {
    const bool odd = k + 1 < conv.channels;
    const Vec bias[2] = {broadcast(conv.bias.data()[k]), broadcast(odd ? conv.bias.data()[k + 1] : 0.0f)};
    for (std::int64_t x = x0; x < x1; x += Vec::kSize) {
      Vec v[2] = {broadcast(0.0f), broadcast(0.0f)};
      for (int i = 0; i < 1 + odd; ++i) {
        v[i] = add(load(sums + (k + i) * kBf16Stripe + (x - x0)), bias[i]);
        v[i] = apply_steps(a.steps, a.step_count, v[i], k + i, x);
        if (!a.y_bf16) store(a.y + (k + i) * a.y_pitch + x, v[i]);
      }
      if (a.y_bf16) store(reinterpret_cast<Cell*>(a.y) + k / 2 * a.y_pitch + x, join_bf16(v[0], v[1]));
    }
  }
}

template <class Sums>
void conv_bf16(const Bf16Row& a) {
  Sums::begin(*a.conv);
  for (std::int64_t x = a.x0; x < a.x1; x += kBf16Stripe) {
    const std::int64_t end = x + kBf16Stripe < a.x1 ? x + kBf16Stripe : a.x1;
    Sums::sums(a, x, end, a.scratch);
    finish_bf16(a, x, end, a.scratch);
  }
  Sums::end();
  if (a.x1 == a.width) clear_pad(a.y, a.y_pitch, a.y_bf16 ? cells_of(a.conv->channels) : a.conv->channels, a.width);
}

void copy_bf16(const Bf16Copy& a) {
  for (int c = 0; c < a.channels; c += 2) {
    const float* even = a.x + c * a.x_pitch;
    Cell* y = reinterpret_cast<Cell*>(a.y) + c / 2 * a.y_pitch;
    for (std::int64_t x = 0; x < a.width; x += Vec::kSize) {
      const Vec odd = c + 1 < a.channels ? load(even + a.x_pitch + x) : broadcast(0.0f);
      store(y + x, join_bf16(load(even + x), odd));
    }
  }
  clear_pad(a.y, a.y_pitch, cells_of(a.channels), a.width);
}

}  // namespace
}  // namespace fastsr
