// Winograd's algorithm, once for all ISA levels: included by kernels.inl. The sums run over the input channels in their
// order, from zero; the transforms are the same operations in the same order at each level.

namespace fastsr {
namespace {

static_assert(kTilesInGroup % Vec::kSize == 0 && Cells::kSize == Vec::kSize, "a group is whole vectors");

alignas(64) constexpr float kZeros[kBlockColumns] = {};

// ---- transforms ----

// B^T d
inline void transform_input(const Vec* d, Vec* v) {
  const Vec four = broadcast(4.0f), five = broadcast(-5.0f), two = broadcast(2.0f);
  const Vec a = fma(broadcast(-4.0f), d[2], d[4]), b = fma(broadcast(-4.0f), d[1], d[3]);
  const Vec c = sub(d[4], d[2]), e = sub(d[3], d[1]);
  v[0] = fma(four, d[0], fma(five, d[2], d[4]));
  v[1] = add(a, b);
  v[2] = sub(a, b);
  v[3] = fma(two, e, c);
  v[4] = fma(broadcast(-2.0f), e, c);
  v[5] = fma(four, d[1], fma(five, d[3], d[5]));
}

// A^T m. Most of it are additions, of which multipliers do a share.
inline void transform_output(const Vec* m, Vec* y) {
  const Vec a = add_by_fma(m[1], m[2]), b = sub(m[1], m[2]), c = add_by_fma(m[3], m[4]), d = sub(m[3], m[4]);
  y[0] = add(add(m[0], a), c);
  y[1] = fma(broadcast(2.0f), d, b);
  y[2] = fma(broadcast(4.0f), c, a);
  y[3] = add(fma(broadcast(8.0f), d, b), m[5]);
}

// The same in integers, in 16 bits: intermediate results may wrap around, no term does (quantizer.hpp).
inline void transform_input(const Cells* d, Cells* v) {
  const Cells a = sub16(d[4], quadruple16(d[2])), b = sub16(d[3], quadruple16(d[1]));
  const Cells c = sub16(d[4], d[2]), half = sub16(d[3], d[1]), e = add16(half, half);
  v[0] = add16(quadruple16(sub16(d[0], d[2])), c);
  v[1] = add16(a, b);
  v[2] = sub16(a, b);
  v[3] = add16(c, e);
  v[4] = sub16(c, e);
  v[5] = sub16(sub16(d[5], d[3]), add16(e, e));
}

// A^T m, where m is what the terms' scales of pack_winograd.cpp made of it.
inline void transform_output_int(const Vec* m, Vec* y) {
  const Vec a = add_by_fma(m[1], m[2]), b = sub(m[1], m[2]), c = add_by_fma(m[3], m[4]), d = sub(m[3], m[4]);
  y[0] = fma(broadcast(0.5f), c, add(m[0], a));
  y[1] = add_by_fma(b, d);
  y[2] = fma(broadcast(2.0f), c, a);
  y[3] = fma(broadcast(4.0f), add(d, m[5]), b);
}

// ---- floats and integers ----

// What the algorithm does with one kind of number. V: a vector of them, T: one of them in memory.
struct InFloats {
  using V = Vec;
  using T = float;
  static V zero() { return broadcast(0.0f); }
  static V all(T x) { return broadcast(x); }
  static V multiply_add(V a, V b, V sum) { return fma(a, b, sum); }
  static Vec floats(V sum) { return sum; }
  static void output(const Vec* m, Vec* y) { transform_output(m, y); }
  template <class Packed>
  static Vec finish(const Packed& conv, int k, Vec y) {
    return add_by_fma(y, broadcast(conv.bias.data()[k]));
  }
  static Vec sigmoid(Vec y) { return sigmoid_vec(y); }
};

struct InIntegers {
  using V = Cells;
  using T = Cell;
  static V zero() { return broadcast_cell(0); }
  static V all(T x) { return broadcast_cell(x); }
  static V multiply_add(V a, V b, V sum) { return dot(a, b, sum); }
  static Vec floats(V sum) { return to_floats(sum); }
  static void output(const Vec* m, Vec* y) { transform_output_int(m, y); }
  template <class Packed>
  static Vec finish(const Packed& conv, int k, Vec y) {
    return fma(y, broadcast(conv.scale.data()[k]), broadcast(conv.bias.data()[k]));
  }
  static Vec sigmoid(Vec y) { return coarse_sigmoid_vec(y); }
};

#if defined(FASTSR_VNNI)
struct InIntegersVnni : InIntegers {
  static V multiply_add(V a, V b, V sum) { return dot_vnni(a, b, sum); }
};
#endif

// The integers of channel k, rounded half to even, in the low halves. They are the low bits of a float's pattern, and
// patterns are in order as far as the ends low and high matter.
inline Cells quantized(const Quantizer& q, int k, Vec x) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23
  const Cells low = as_cells(add(broadcast(q.low.data()[k]), magic));
  const Cells high = as_cells(add(broadcast(q.high.data()[k]), magic));
  return min32(max32(as_cells(fma(x, broadcast(q.inverse.data()[k]), magic)), low), high);
}

// ---- in ----

// One channel of a group, or one cell: rows[i] is its run of 64 in tiles.
template <class A>
inline void channel_in(const typename A::T* const* rows, const typename A::T* left, const typename A::T* right,
                       typename A::T* v, std::ptrdiff_t panel) {
  using V = typename A::V;
  for (int h = 0; h < kTilesInGroup; h += V::kSize) {
    V inner[4][kTileInputs];  // [row 1..4 of the transform][column]
    alignas(64) typename A::T outer[2][kTileInputs][V::kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kTileInputs; ++j) {
      V d[kTileInputs], t[kTileInputs];
#pragma GCC unroll 6
      for (int i = 0; i < kTileInputs; ++i) {
        const typename A::T* row = rows[i] + h;
        if (j == 0) {
          d[i] = h == 0 ? shift_up(load(row + 3 * kTilesInGroup), left[i]) : load(row + 3 * kTilesInGroup - 1);
        } else if (j == 5) {
          d[i] = h + V::kSize == kTilesInGroup ? shift_down(load(row), right[i]) : load(row + 1);
        } else {
          d[i] = load(row + (j - 1) * kTilesInGroup);
        }
      }
      transform_input(d, t);
      store(outer[0][j], t[0]);
      store(outer[1][j], t[5]);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) inner[i][j] = t[i + 1];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      V t[kTileInputs];
      transform_input(inner[i], t);
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) store(v + ((i + 1) * kTileInputs + j) * panel + h, t[j]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      V d[kTileInputs], t[kTileInputs];
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) d[j] = load(outer[i][j]);
      transform_input(d, t);
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) store(v + (i * 5 * kTileInputs + j) * panel + h, t[j]);
    }
  }
}

template <class A>
void tiled_in(const WinogradPiece& a, const TileGroup& g, typename A::T* v, std::ptrdiff_t panel, int vectors) {
  using T = typename A::T;
  const int inputs = a.conv->inputs;
  const T* rows[kTileInputs];
  T left[kTileInputs], right[kTileInputs];
  for (int c = 0; c < inputs; ++c, v += vectors) {
    for (int i = 0; i < kTileInputs; ++i) {
      const T* before = reinterpret_cast<const T*>(g.x_left[i]);
      const T* behind = reinterpret_cast<const T*>(g.x_right[i]);
      rows[i] = g.x[i] ? reinterpret_cast<const T*>(g.x[i]) + c * kBlockColumns : reinterpret_cast<const T*>(kZeros);
      left[i] = before ? before[c] : T{0};
      right[i] = behind ? behind[c] : T{0};
    }
    channel_in<A>(rows, left, right, v, panel);
  }
}

// 64 columns of a plain row, of which begin..end exist with kRowPad more on either side, into tiles.
inline void to_tiles(const float* x, int begin, int end, float* tiles) {
  alignas(64) float whole[kBlockColumns];
  if (begin > 0 || end < kBlockColumns) {
    for (int i = 0; i < kBlockColumns; ++i) whole[i] = i >= begin - kRowPad && i < end + kRowPad ? x[i] : 0.0f;
    x = whole;
  }
  for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
    Vec in[4], out[4];
    for (int j = 0; j < 4; ++j) in[j] = load(x + h * 4 + j * Vec::kSize);
    deinterleave(in, out);
    for (int p = 0; p < 4; ++p) store(tiles + p * kTilesInGroup + h, out[p]);
  }
}

inline float pixel_or_zero(const float* x, int begin, int end, int at) {
  return at >= begin - kRowPad && at < end + kRowPad ? x[at] : 0.0f;
}

void plain_in(const WinogradPiece& a, const TileGroup& g, float* v, std::ptrdiff_t panel, int vectors) {
  alignas(64) float tiles[kTileInputs][kBlockColumns];
  const float* rows[kTileInputs];
  float left[kTileInputs] = {}, right[kTileInputs] = {};
  for (int i = 0; i < kTileInputs; ++i) rows[i] = g.x[i] ? tiles[i] : kZeros;
  for (int c = 0; c < a.conv->inputs; ++c, v += vectors) {
    for (int i = 0; i < kTileInputs; ++i) {
      if (!g.x[i]) continue;
      const float* x = g.x[i] + c * a.x_pitch;
      to_tiles(x, g.x_begin, g.x_end, tiles[i]);
      left[i] = pixel_or_zero(x, g.x_begin, g.x_end, -1);
      right[i] = pixel_or_zero(x, g.x_begin, g.x_end, kBlockColumns);
    }
    channel_in<InFloats>(rows, left, right, v, panel);
  }
}

// ---- products ----

// M output channels x N vectors of tiles: sums[m][n] = sum over c of u[c][m] * v[c][n].
template <class A, int M, int N>
void multiply_block(const typename A::T* v, const typename A::T* u, typename A::T* sums, int inputs, int vectors) {
  using V = typename A::V;
  V acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = A::zero();
  }
  for (int c = 0; c < inputs; ++c, v += vectors, u += M) {
    V in[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) in[n] = load(v + n * V::kSize);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const V weight = A::all(u[m]);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) acc[m][n] = A::multiply_add(weight, in[n], acc[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(sums + m * vectors + n * V::kSize, acc[m][n]);
  }
}

template <class A>
using MultiplyFunction = void (*)(const typename A::T*, const typename A::T*, typename A::T*, int, int);

template <class A, int N, int M = kMaxTileBlock>
MultiplyFunction<A> pick_multiply(int m) {
  if constexpr (M > 1) {
    if (m < M) return pick_multiply<A, N, M - 1>(m);
  }
  return &multiply_block<A, M, N>;
}

// All terms of a pass: sums[term][k][tiles] from v[term][c][tiles]. The sums of a term may take the place of inputs
// that have been read.
template <class A>
void multiply(const PackedWinograd& conv, const WinogradPass& pass, const typename A::T* v, typename A::T* sums,
              const WinogradScratch& at, int vectors) {
  constexpr int kSize = A::V::kSize;
  const typename A::T* u = reinterpret_cast<const typename A::T*>(conv.weights.data()) + pass.weights;
  const int inputs = conv.inputs;
  const int count = vectors / kSize;
  for (int term = 0; term < kTileTerms; ++term, v += at.input_panel, sums += at.sum_panel) {
    typename A::T* to = sums;
    for (const WinogradBlock& block : pass.blocks) {
      int n = 0;
      for (; n + kTileVectors <= count; n += kTileVectors) {
        pick_multiply<A, kTileVectors>(block.count)(v + n * kSize, u, to + n * kSize, inputs, vectors);
      }
      if constexpr (kTileVectors > 2) {
        if (n + 2 <= count) {
          pick_multiply<A, 2>(block.count)(v + n * kSize, u, to + n * kSize, inputs, vectors);
          n += 2;
        }
      }
      for (; n < count; ++n) {
        pick_multiply<A, 1>(block.count)(v + n * kSize, u, to + n * kSize, inputs, vectors);
      }
      u += inputs * block.count;
      to += block.count * vectors;
    }
  }
}

// ---- out ----

// What the 4 rows of a group add or multiply: vector (i, j) is other[i] + channel * pitch + j * step + at; packed: the
// same of the channel's cell. nullptr: a row that is not wanted.
struct GroupRows {
  const float* other[kMaxOperands][kTileRows];
  std::ptrdiff_t other_pitch[kMaxOperands];
  int step;
  bool packed;
};

inline Vec packed_operand(const BoundStep& s, const float* cells, int k) {
  const Cells pair = load(reinterpret_cast<const Cell*>(cells));
  return mul(to_floats(k % 2 == 0 ? even_halves(pair) : odd_halves(pair)), broadcast(s.other_scale[k]));
}

// The layer's steps on row i of a channel, 4 vectors that stay in registers.
template <class A>
__attribute__((always_inline)) inline void row_steps(const WinogradPiece& a, const GroupRows& rows, int i, int k,
                                                     int at, Vec* y) {
#define FASTSR_EACH(expression)                         \
  _Pragma("GCC unroll 4") for (int j = 0; j < 4; ++j) { \
    const Vec v = y[j];                                 \
    y[j] = (expression);                                \
  }                                                     \
  break
  int operand = 0;
  for (int n = 0; n < a.step_count; ++n) {
    const BoundStep& s = a.steps[n];
    switch (s.op) {
      case StepOp::relu: FASTSR_EACH(max(v, broadcast(0.0f)));
      case StepOp::leaky_relu:
        if (s.a > 0 && s.a <= 1) {  // then the larger one is the right one
          FASTSR_EACH(max(v, mul(v, broadcast(s.a))));
        }
        FASTSR_EACH(where_positive(v, v, mul(v, broadcast(s.a))));
      case StepOp::prelu: FASTSR_EACH(where_positive(v, v, mul(v, broadcast(s.tensor0[k]))));
      case StepOp::clip: FASTSR_EACH(min(max(v, broadcast(s.a)), broadcast(s.b)));
      case StepOp::affine: FASTSR_EACH(fma(v, broadcast(s.tensor0[k]), broadcast(s.tensor1[k])));
      case StepOp::sigmoid: FASTSR_EACH(A::sigmoid(v));
      case StepOp::tanh: FASTSR_EACH(tanh_vec(v));
      case StepOp::add:
      case StepOp::mul: {
        const float* other = rows.other[operand][i];
        if (other) {
          other += (rows.packed ? k / 2 : k) * rows.other_pitch[operand] + at;
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) {
            const float* from = other + j * rows.step;
            const Vec w = rows.packed ? packed_operand(s, from, k) : load(from);
            y[j] = s.op == StepOp::add ? add(y[j], w) : mul(y[j], w);
          }
        }
        ++operand;
      }
    }
  }
#undef FASTSR_EACH
}

// Zero the pixels of a block from column `end` on, of all channels, or cells.
template <class A>
inline void clear_block(typename A::T* y, int channels, int end) {
  for (int k = 0; k < channels; ++k) {
    for (int x = end; x < kBlockColumns; ++x) {
      y[k * kBlockColumns + x % kTileRows * kTilesInGroup + x / kTileRows] = 0;
    }
  }
}

// What the neighbours of a finished block will read of it.
template <class A>
inline void copy_edges(typename A::T* y, int k0, int count, int channels) {
  typename A::T* edges = y + std::ptrdiff_t{channels} * kBlockColumns;
  for (int k = k0; k < k0 + count; ++k) {
    edges[k] = y[k * kBlockColumns];
    edges[channels + k] = y[k * kBlockColumns + kBlockColumns - 1];
  }
}

// One channel's 4 rows of outputs, finished and in the order of the output's layout: emit(row, 4 vectors).
template <class A, bool tiled, class Emit>
__attribute__((always_inline)) inline void finish_channel(const WinogradPiece& a, const GroupRows& rows,
                                                          const typename A::T* sums, std::ptrdiff_t panel, int k, int h,
                                                          const Emit& emit) {
  alignas(64) float t[kTileRows][kTileInputs][Vec::kSize];
#pragma GCC unroll 1  // there is no register for all of t, and short code is read faster
  for (int j = 0; j < kTileInputs; ++j, sums += panel) {
    Vec m[kTileInputs], y[kTileRows];
#pragma GCC unroll 6
    for (int i = 0; i < kTileInputs; ++i) m[i] = A::floats(load(sums + i * kTileInputs * panel));
    A::output(m, y);
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) store(t[i][j], y[i]);
  }
#pragma GCC unroll 1
  for (int i = 0; i < kTileRows; ++i) {
    Vec m[kTileInputs], y[4], o[4];
#pragma GCC unroll 6
    for (int j = 0; j < kTileInputs; ++j) m[j] = load(t[i][j]);
    A::output(m, y);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) y[j] = A::finish(*a.conv, k, y[j]);
    if (tiled) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) o[j] = y[j];
    } else {
      interleave(y, o);
    }
    row_steps<A>(a, rows, i, k, tiled ? h : h * 4, o);
    emit(i, o);
  }
}

template <class A>
void tiled_out(const WinogradPiece& a, const TileGroup& g, const WinogradPass& pass, const typename A::T* sums,
               std::ptrdiff_t panel, int vectors) {
  GroupRows rows;
  rows.step = kTilesInGroup;
  rows.packed = false;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = kBlockColumns;
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = g.other[n][i];
  }
  for (int k = pass.k0; k < pass.k0 + pass.count; ++k, sums += vectors) {
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      finish_channel<A, true>(a, rows, sums + h, panel, k, h, [&](int i, const Vec* o) {
        if (!g.y[i]) return;
        float* y = g.y[i] + k * kBlockColumns + h;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store(y + j * kTilesInGroup, o[j]);
      });
    }
  }
  for (int i = 0; i < kTileRows; ++i) {
    if (!g.y[i]) continue;
    if (g.image_end < kBlockColumns) clear_block<InFloats>(g.y[i] + pass.k0 * kBlockColumns, pass.count, g.image_end);
    copy_edges<InFloats>(g.y[i], pass.k0, pass.count, a.conv->channels);
  }
}

// Pair of channels by pair of channels; the odd one of a last pair that has none is zero.
template <class A>
void packed_out(const WinogradPiece& a, const TileGroup& g, const WinogradPass& pass, const typename A::T* sums,
                std::ptrdiff_t panel, int vectors) {
  const Quantizer& q = *a.y_quantizer;
  GroupRows rows;
  rows.step = kTilesInGroup;
  rows.packed = true;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = kBlockColumns;
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = g.other[n][i];
  }
  const int end = pass.k0 + pass.count;
  alignas(64) Cell evens[kTileRows][4][Vec::kSize];
  for (int k = pass.k0; k < end; k += 2, sums += 2 * vectors) {
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      finish_channel<A, true>(a, rows, sums + h, panel, k, h, [&](int i, const Vec* o) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store(evens[i][j], quantized(q, k, o[j]));
      });
      const auto join = [&](int i, const Vec* o) {
        if (!g.y[i]) return;
        Cell* y = reinterpret_cast<Cell*>(g.y[i]) + k / 2 * kBlockColumns + h;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          store(y + j * kTilesInGroup, join_even(load(evens[i][j]), quantized(q, k + 1, o[j])));
        }
      };
      if (k + 1 < end) {
        finish_channel<A, true>(a, rows, sums + vectors + h, panel, k + 1, h, join);
      } else {
        const Vec zero = broadcast(0.0f), zeros[4] = {zero, zero, zero, zero};
        for (int i = 0; i < kTileRows; ++i) join(i, zeros);
      }
    }
  }
  const int first = pass.k0 / 2, count = cells_of(pass.count);
  for (int i = 0; i < kTileRows; ++i) {
    if (!g.y[i]) continue;
    Cell* y = reinterpret_cast<Cell*>(g.y[i]);
    if (g.image_end < kBlockColumns) clear_block<InIntegers>(y + first * kBlockColumns, count, g.image_end);
    copy_edges<InIntegers>(y, first, count, cells_of(a.conv->channels));
  }
}

template <class A>
void plain_out(const WinogradPiece& a, const TileGroup& g, const WinogradPass& pass, const typename A::T* sums,
               std::ptrdiff_t panel, int vectors) {
  alignas(64) float whole[kTileRows][kBlockColumns];
  alignas(64) float others[kMaxOperands][kTileRows][kBlockColumns];
  const bool partial = g.y_begin > 0 || g.y_end < kBlockColumns;
  GroupRows rows;
  rows.step = Vec::kSize;
  rows.packed = false;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = partial ? 0 : a.other_pitch[n];
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = !g.other[n][i] || !partial ? g.other[n][i] : others[n][i];
  }
  for (int k = pass.k0; k < pass.k0 + pass.count; ++k, sums += vectors) {
    for (int n = 0; partial && n < kMaxOperands; ++n) {
      for (int i = 0; i < kTileRows; ++i) {
        if (!g.other[n][i]) continue;
        const float* other = g.other[n][i] + k * a.other_pitch[n];
        for (int x = 0; x < kBlockColumns; ++x) others[n][i][x] = x >= g.y_begin && x < g.y_end ? other[x] : 0.0f;
      }
    }
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      finish_channel<A, false>(a, rows, sums + h, panel, k, h, [&](int i, const Vec* o) {
        if (!g.y[i]) return;
        float* y = (partial ? whole[i] : g.y[i] + k * a.y_pitch) + h * 4;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store(y + j * Vec::kSize, o[j]);
      });
    }
    for (int i = 0; partial && i < kTileRows; ++i) {
      if (!g.y[i]) continue;
      for (int x = g.y_begin; x < g.y_end; ++x) g.y[i][k * a.y_pitch + x] = whole[i][x];
    }
  }
  for (int i = 0; g.last && i < kTileRows; ++i) {
    if (g.y[i]) clear_pad(g.y[i] + pass.k0 * a.y_pitch, a.y_pitch, pass.count, g.y_end);
  }
}

template <class A, class In, class Out>
void winograd_piece(const WinogradPiece& a, const In& in, const Out& out) {
  const PackedWinograd& conv = *a.conv;
  const int vectors = a.group_count * kTilesInGroup;  // of a channel in a panel
  const WinogradScratch at = winograd_scratch(conv.inputs, conv.channels, a.group_count);
  typename A::T* sums = reinterpret_cast<typename A::T*>(a.scratch);
  typename A::T* v = sums + at.inputs;
  for (int n = 0; n < a.group_count; ++n) in(a, a.groups[n], v + n * kTilesInGroup, at.input_panel, vectors);
  for (const WinogradPass& pass : conv.passes) {
    multiply<A>(conv, pass, v, sums, at, vectors);
    for (int n = 0; n < a.group_count; ++n) {
      out(a, a.groups[n], pass, sums + n * kTilesInGroup, at.sum_panel, vectors);
    }
  }
}

void winograd(const WinogradPiece& a) {
  winograd_piece<InFloats>(a, a.x_layout == Layout::tiled ? tiled_in<InFloats> : plain_in,
                           a.y_layout == Layout::tiled    ? tiled_out<InFloats>
                           : a.y_layout == Layout::packed ? packed_out<InFloats>
                                                          : plain_out<InFloats>);
}

// The input is packed.
template <class A>
void winograd_int(const WinogradPiece& a) {
  winograd_piece<A>(a, tiled_in<A>,
                    a.y_layout == Layout::packed  ? packed_out<A>
                    : a.y_layout == Layout::tiled ? tiled_out<A>
                                                  : plain_out<A>);
}

void relayout(const RelayoutRow& a) {
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    const std::int64_t from = b * kBlockColumns - a.x_begin;  // column of x at the block's column 0
    const int begin = from < 0 ? static_cast<int>(-from) : 0;
    const int end = a.width - from < kBlockColumns ? static_cast<int>(a.width - from) : kBlockColumns;
    float* y = a.y + b * block_words(a.channels);
    for (int c = 0; c < a.channels; ++c) to_tiles(a.x + c * a.x_pitch + from, begin, end, y + c * kBlockColumns);
    copy_edges<InFloats>(y, 0, a.channels, a.channels);
  }
}

// 64 columns of two plain channels into cells; odd: nullptr where there is none.
inline void to_cells(const Quantizer& q, int k, const float* even, const float* odd, int begin, int end, Cell* cells) {
  alignas(64) float tiles[2][kBlockColumns];
  to_tiles(even, begin, end, tiles[0]);
  if (odd) to_tiles(odd, begin, end, tiles[1]);
  const Vec zero = broadcast(0.0f);
  for (int x = 0; x < kBlockColumns; x += Vec::kSize) {
    store(cells + x,
          join_even(quantized(q, k, load(tiles[0] + x)), quantized(q, k + 1, odd ? load(tiles[1] + x) : zero)));
  }
}

void pack(const RelayoutRow& a) {
  const int cells = cells_of(a.channels);
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    const std::int64_t from = b * kBlockColumns - a.x_begin;  // column of x at the block's column 0
    const int begin = from < 0 ? static_cast<int>(-from) : 0;
    const int end = a.width - from < kBlockColumns ? static_cast<int>(a.width - from) : kBlockColumns;
    Cell* y = reinterpret_cast<Cell*>(a.y) + b * block_words(cells);
    for (int k = 0; k < a.channels; k += 2) {
      const float* even = a.x + k * a.x_pitch + from;
      to_cells(*a.quantizer, k, even, k + 1 < a.channels ? even + a.x_pitch : nullptr, begin, end,
               y + k / 2 * kBlockColumns);
    }
    copy_edges<InIntegers>(y, 0, cells, cells);
  }
}

}  // namespace
}  // namespace fastsr
