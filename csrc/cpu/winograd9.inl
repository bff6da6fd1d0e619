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

// The same in integers, in 16 bits: intermediate results may wrap around, no term does (quantizer.hpp).
inline void transform_part_input(const Cells* d, Cells* v) {
  const Cells a = sub16(d[3], d[1]), b = sub16(d[0], d[2]), c = sub16(d[1], d[2]);
  v[0] = add16(add16(b, b), a);
  v[1] = sub16(a, add16(d[1], d[2]));
  v[2] = add16(add16(c, c), sub16(d[3], d[2]));
  v[3] = a;
  v[4] = sub16(sub16(d[4], d[2]), add16(a, a));
}

inline void deinterleave3(const Cells* in, Cells* out) {
  Vec from[3], to[3];
  for (int i = 0; i < 3; ++i) from[i] = as_floats(in[i]);
  deinterleave3(from, to);
  for (int i = 0; i < 3; ++i) out[i] = as_cells(to[i]);
}

// The inputs of `lanes` tiles, of which a.tiles + 2 are read: v[term][channel][lanes].
template <class A>
void parts_in(const Winograd9Row& a, typename A::T* v, std::ptrdiff_t panel, int lanes) {
  using V = typename A::V;
  using T = typename A::T;
  alignas(64) T down[kPartInputs][kPartColumns];  // transformed down the columns
  alignas(64) constexpr T kNothing[kPartColumns] = {};
  const int columns = (a.tiles + kParts - 1) * kPartRows + 2;
  const int last = columns > V::kSize ? columns - V::kSize : 0;  // the last vector overlaps the one before
  for (int c = 0; c < a.conv->inputs; ++c, v += lanes) {
    const T* rows[kPartInputs];
    for (int i = 0; i < kPartInputs; ++i) {
      rows[i] = a.x[i] ? reinterpret_cast<const T*>(a.x[i]) + c * a.x_pitch : kNothing;
    }
    for (int x = 0; x < columns; x += V::kSize) {
      const int at = x < last ? x : last;
      V d[kPartInputs], t[kPartInputs];
#pragma GCC unroll 5
      for (int i = 0; i < kPartInputs; ++i) d[i] = load(rows[i] + at);
      transform_part_input(d, t);
#pragma GCC unroll 5
      for (int i = 0; i < kPartInputs; ++i) store(down[i] + at, t[i]);
    }
    for (int i = 0; i < kPartInputs; ++i) {
      for (int h = 0; h < lanes; h += V::kSize) {
        const T* from = down[i] + h * kPartRows;
        V in[3], d[kPartInputs], t[kPartInputs];
        for (int j = 0; j < 3; ++j) in[j] = load(from + j * V::kSize);
        deinterleave3(in, d);
        d[3] = shift_down(d[0], from[3 * V::kSize]);
        d[4] = shift_down(d[1], from[3 * V::kSize + 1]);
        transform_part_input(d, t);
#pragma GCC unroll 5
        for (int j = 0; j < kPartInputs; ++j) store(v + (i * kPartInputs + j) * panel + h, t[j]);
      }
    }
  }
}

// M rows x N vectors of tiles: sums[m][n] += sum over (c, t) of u[c][t][m] * v[c][n + t]; the first `fresh` rows begin.
template <class A, int M, int N>
void multiply_parts(const typename A::T* v, const typename A::T* u, float* const* sums, int fresh, int inputs,
                    int lanes) {
  using V = typename A::V;
  V acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = A::zero();
  }
  for (int c = 0; c < inputs; ++c, v += lanes) {
    for (int t = 0; t < kParts; ++t, u += M) {
      V in[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) in[n] = load(v + t + n * V::kSize);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const V weight = A::all(u[m]);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) acc[m][n] = A::multiply_add(weight, in[n], acc[m][n]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      float* to = sums[m] + n * V::kSize;
      store(to, m < fresh ? A::floats(acc[m][n]) : add(load(to), A::floats(acc[m][n])));
    }
  }
}

template <class A>
using MultiplyPartsFunction = void (*)(const typename A::T*, const typename A::T*, float* const*, int, int, int);

template <class A, int N, int M = kMaxPartBlock>
MultiplyPartsFunction<A> pick_multiply_parts(int m) {
  if constexpr (M > 1) {
    if (m < M) return pick_multiply_parts<A, N, M - 1>(m);
  }
  return &multiply_parts<A, M, N>;
}

// sums[u mod 3][term][k][lanes]
inline float* part_sums(const Winograd9Row& a, float* sums, std::int64_t u, int term, int k, int lanes) {
  return sums + ((u % kParts * kPartTerms + term) * a.conv->channels + k) * lanes;
}

template <class A>
void multiply_all_parts(const Winograd9Row& a, const typename A::T* v, std::ptrdiff_t panel, float* sums, int lanes) {
  const PackedWinograd9& conv = *a.conv;
  const typename A::T* w = reinterpret_cast<const typename A::T*>(conv.weights.data());
  for (int term = 0; term < kPartTerms; ++term, v += panel) {
    for (const WinogradBlock& block : conv.blocks) {
      float* rows[kMaxPartBlock];
      for (int m = 0; m < block.count; ++m) {
        const int s = (block.k0 + m) / conv.channels, k = (block.k0 + m) % conv.channels;
        rows[m] = part_sums(a, sums, a.u + kParts - s, term, k, lanes);
      }
      const int fresh = conv.channels - block.k0;
      for (int n = 0; n < lanes;) {
        const bool wide = lanes - n >= kTileVectors * Vec::kSize;
        const MultiplyPartsFunction<A> multiply =
            wide ? pick_multiply_parts<A, kTileVectors>(block.count) : pick_multiply_parts<A, 1>(block.count);
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
template <class A>
void finish_parts(const Winograd9Row& a, float* sums, int k, int lanes, float (*rows)[kPartColumns]) {
  alignas(64) float outputs[kPartRows][kPartRows][kPartLanes];
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
      for (int j = 0; j < kPartRows; ++j) store(outputs[i][j] + h, A::finish(*a.conv, k, y[j]));
    }
  }
  for (int i = 0; i < kPartRows; ++i) {
    for (int n = 0; n < lanes; ++n) {
      for (int j = 0; j < kPartRows; ++j) rows[i][n * kPartRows + j] = outputs[i][j][n];
    }
  }
}

template <class A>
void winograd9(const Winograd9Row& a) {
  const int lanes = (a.tiles + kParts - 1 + Vec::kSize - 1) / Vec::kSize * Vec::kSize;
  const std::ptrdiff_t panel = part_panel(a.conv->inputs);
  float* sums = a.scratch + kPartTerms * panel;
  typename A::T* v = reinterpret_cast<typename A::T*>(a.scratch);
  parts_in<A>(a, v, panel, lanes);
  multiply_all_parts<A>(a, v, panel, sums, lanes);
  if (!a.y[0] && !a.y[1] && !a.y[2]) return;
  alignas(64) float rows[kPartRows][kPartColumns];
  for (int k = 0; k < a.conv->channels; ++k) {
    finish_parts<A>(a, sums, k, lanes, rows);
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
