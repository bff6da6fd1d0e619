// 9x9 kernels in parts, once for all ISA levels: included by kernels.inl.

namespace fastsr {
namespace {

static_assert(kPartLanes % Vec::kSize == 0, "a panel's row is whole vectors");

constexpr int kPartColumns = kPartLanes * kPartRows + 16;  // input columns of a row of tiles, and a vector more

// B^T d of F(3, 3)
inline void transform_part_input(const Vec* d, Vec* v) {
  const Vec two = broadcast(2.0f), a = sub(d[3], d[1]);
  v[0] = fma(two, sub(d[0], d[2]), a);
  v[1] = sub(a, add(d[1], d[2]));
  v[2] = fma(two, sub(d[1], d[2]), sub(d[3], d[2]));
  v[3] = a;
  v[4] = fma(broadcast(-2.0f), a, sub(d[4], d[2]));
}

// A^T m of F(3, 3)
inline void transform_part_output(const Vec* m, Vec* y) {
  const Vec a = add(m[1], m[2]);
  y[0] = add(add(m[0], a), m[3]);
  y[1] = fma(broadcast(2.0f), m[3], sub(m[1], m[2]));
  y[2] = add(fma(broadcast(4.0f), m[3], a), m[4]);
}

// The inputs of `lanes` tiles: v[term][channel][lanes].
void parts_in(const Winograd9Row& a, float* v, std::ptrdiff_t panel, int lanes) {
  alignas(64) float whole[kPartInputs][kPartColumns];
  alignas(64) float down[kPartInputs][kPartColumns];
  const int columns = lanes * kPartRows + 2;
  const int readable = a.x_end < kPartColumns ? static_cast<int>(a.x_end) : kPartColumns;
  const bool partial = readable < (columns + Vec::kSize - 1) / Vec::kSize * Vec::kSize;
  for (int i = 0; i < kPartInputs; ++i) __builtin_memset(whole[i], 0, sizeof whole[i]);
  for (int c = 0; c < a.conv->inputs; ++c, v += lanes) {
    const float* rows[kPartInputs];
    for (int i = 0; i < kPartInputs; ++i) {
      rows[i] = a.x[i] ? a.x[i] + c * a.x_pitch : whole[i];
      if (!partial || !a.x[i]) continue;
      __builtin_memcpy(whole[i], rows[i], static_cast<std::size_t>(readable) * sizeof(float));
      rows[i] = whole[i];
    }
    for (int x = 0; x < columns; x += Vec::kSize) {
      Vec d[kPartInputs], t[kPartInputs];
#pragma GCC unroll 5
      for (int i = 0; i < kPartInputs; ++i) d[i] = load(rows[i] + x);
      transform_part_input(d, t);
#pragma GCC unroll 5
      for (int i = 0; i < kPartInputs; ++i) store(down[i] + x, t[i]);
    }
    for (int i = 0; i < kPartInputs; ++i) {
      for (int h = 0; h < lanes; h += Vec::kSize) {
        const float* from = down[i] + h * kPartRows;
        Vec in[3], d[kPartInputs], t[kPartInputs];
        for (int j = 0; j < 3; ++j) in[j] = load(from + j * Vec::kSize);
        deinterleave3(in, d);
        d[3] = shift_down(d[0], from[3 * Vec::kSize]);
        d[4] = shift_down(d[1], from[3 * Vec::kSize + 1]);
        transform_part_input(d, t);
#pragma GCC unroll 5
        for (int j = 0; j < kPartInputs; ++j) store(v + (i * kPartInputs + j) * panel + h, t[j]);
      }
    }
  }
}

// M rows x N vectors of tiles: sums[m][n] += sum over (c, t) of u[c][t][m] * v[c][n + t]; the first `fresh` rows begin.
template <int M, int N>
void multiply_parts(const float* v, const float* u, float* const* sums, int fresh, int inputs, int lanes) {
  Vec acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = broadcast(0.0f);
  }
  for (int c = 0; c < inputs; ++c, v += lanes) {
    for (int t = 0; t < kParts; ++t, u += M) {
      Vec in[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) in[n] = load(v + t + n * Vec::kSize);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec weight = broadcast(u[m]);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) acc[m][n] = fma(weight, in[n], acc[m][n]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      float* to = sums[m] + n * Vec::kSize;
      store(to, m < fresh ? acc[m][n] : add(load(to), acc[m][n]));
    }
  }
}

using MultiplyPartsFunction = void (*)(const float*, const float*, float* const*, int, int, int);

template <int N, int M = kMaxTileBlock>
MultiplyPartsFunction pick_multiply_parts(int m) {
  if constexpr (M > 1) {
    if (m < M) return pick_multiply_parts<N, M - 1>(m);
  }
  return &multiply_parts<M, N>;
}

// sums[u mod 3][term][k][lanes]
inline float* part_sums(const Winograd9Row& a, float* sums, std::int64_t u, int term, int k, int lanes) {
  return sums + ((u % kParts * kPartTerms + term) * a.conv->channels + k) * lanes;
}

void multiply_all_parts(const Winograd9Row& a, const float* v, std::ptrdiff_t panel, float* sums, int lanes) {
  const PackedWinograd9& conv = *a.conv;
  const float* w = conv.weights.data();
  for (int term = 0; term < kPartTerms; ++term, v += panel) {
    for (const WinogradBlock& block : conv.blocks) {
      float* rows[kMaxTileBlock];
      for (int m = 0; m < block.count; ++m) {
        const int s = (block.k0 + m) / conv.channels, k = (block.k0 + m) % conv.channels;
        rows[m] = part_sums(a, sums, a.u + kParts - s, term, k, lanes);
      }
      const int fresh = conv.channels - block.k0;
      for (int n = 0; n < lanes;) {
        const bool wide = lanes - n >= kTileVectors * Vec::kSize;
        const MultiplyPartsFunction multiply =
            wide ? pick_multiply_parts<kTileVectors>(block.count) : pick_multiply_parts<1>(block.count);
        multiply(v + n, w, rows, fresh, conv.inputs, lanes);
        const int done = (wide ? kTileVectors : 1) * Vec::kSize;
        for (int m = 0; m < block.count; ++m) rows[m] += done;
        n += done;
      }
      w += conv.inputs * kParts * block.count;
    }
  }
}

// The tiles of row u - 2, one channel: rows[i] gets row i of the outputs.
void finish_parts(const Winograd9Row& a, float* sums, int k, int lanes, float (*rows)[kPartColumns]) {
  alignas(64) float outputs[kPartRows][kPartRows][kPartLanes];
  const Vec bias = broadcast(a.conv->bias.data()[k]);
  for (int h = 0; h < lanes; h += Vec::kSize) {
    Vec t[kPartRows][kPartInputs];
#pragma GCC unroll 5
    for (int j = 0; j < kPartInputs; ++j) {
      Vec m[kPartInputs], y[kPartRows];
#pragma GCC unroll 5
      for (int i = 0; i < kPartInputs; ++i) {
        m[i] = load(part_sums(a, sums, a.u + 1, i * kPartInputs + j, k, lanes) + h);
      }
      transform_part_output(m, y);
#pragma GCC unroll 3
      for (int i = 0; i < kPartRows; ++i) t[i][j] = y[i];
    }
#pragma GCC unroll 3
    for (int i = 0; i < kPartRows; ++i) {
      Vec y[kPartRows];
      transform_part_output(t[i], y);
#pragma GCC unroll 3
      for (int j = 0; j < kPartRows; ++j) store(outputs[i][j] + h, add(y[j], bias));
    }
  }
  for (int i = 0; i < kPartRows; ++i) {
    for (int n = 0; n < lanes; ++n) {
      for (int j = 0; j < kPartRows; ++j) rows[i][n * kPartRows + j] = outputs[i][j][n];
    }
  }
}

void winograd9(const Winograd9Row& a) {
  const int lanes = (a.tiles + kParts - 1 + Vec::kSize - 1) / Vec::kSize * Vec::kSize;
  const std::ptrdiff_t panel = part_panel(a.conv->inputs);
  float *v = a.scratch, *sums = v + kPartTerms * panel;
  parts_in(a, v, panel, lanes);
  multiply_all_parts(a, v, panel, sums, lanes);
  if (!a.y[0] && !a.y[1] && !a.y[2]) return;
  alignas(64) float rows[kPartRows][kPartColumns];
  for (int k = 0; k < a.conv->channels; ++k) {
    finish_parts(a, sums, k, lanes, rows);
    for (int i = 0; i < kPartRows; ++i) {
      if (!a.y[i]) continue;
      for (int x = 0; a.step_count > 0 && x < a.y_width; x += Vec::kSize) {
        store(rows[i] + x, apply_steps(a.steps[i], a.step_count, load(rows[i] + x), k, a.y_begin + x));
      }
      __builtin_memcpy(a.y[i] + k * a.y_pitch, rows[i], static_cast<std::size_t>(a.y_width) * sizeof(float));
    }
  }
  for (int i = 0; a.last && i < kPartRows; ++i) {
    if (a.y[i]) clear_pad(a.y[i], a.y_pitch, a.conv->channels, a.y_width);
  }
}

}  // namespace
}  // namespace fastsr
