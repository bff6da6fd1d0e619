// Winograd's algorithm, once for all ISA levels: included by kernels.inl. The sums run over the input channels in their
// order, from zero; the transforms are the same operations in the same order at each level.
//
// Products keep the multipliers busy and little else; transforms are additions, loads and stores. So where registers
// suffice for both (kInterleave) they are computed at the same time: while a block of output channels is multiplied,
// the outputs of the block before and some inputs of the next group are transformed, a few instructions after a few
// products.

namespace fastsr {
namespace {

static_assert(kTilesInGroup % Vec::kSize == 0 && Cells::kSize == Vec::kSize, "a group is whole vectors");
static_assert(kMaxTileBlock % 2 == 0 && kMaxTileBlock <= kMaxBlockChannels, "a block is whole cells");

alignas(64) constexpr float kZeros[kBlockColumns] = {};

// The integers of channel k, rounded half to even, in the low halves. They are the low bits of a float's pattern, and
// patterns are in order as far as the ends low and high matter.
inline Cells quantized(const Quantizer& q, int k, Vec x) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23
  const Cells low = as_cells(add(broadcast(q.low.data()[k]), magic));
  const Cells high = as_cells(add(broadcast(q.high.data()[k]), magic));
  return min32(max32(as_cells(fma(x, broadcast(q.inverse.data()[k]), magic)), low), high);
}

// ---- fetching ----

// Rows may be in another core's cache, or in none: the transforms ask for channels, or cells, some steps ahead. A row's
// last steps ask for what lies behind it, which does no harm.
constexpr int kFetchAhead = 2;
constexpr int kLineWords = static_cast<int>(kCacheLine / sizeof(float));

inline void fetch(const void* channel) {
#pragma GCC unroll 4
  for (int i = 0; i < kBlockColumns; i += kLineWords) __builtin_prefetch(static_cast<const float*>(channel) + i, 0);
}

inline void fetch_to_write(const float* channel) {
#pragma GCC unroll 4
  for (int i = 0; i < kBlockColumns; i += kLineWords) __builtin_prefetch(channel + i, 1);
}

// ---- in ----

struct Channels {
  int begin = 0, end = 0;
};

// One channel of a group, or one cell: its rows, each a run of 64 in tiles, and the pixels beside them.
template <class A>
struct ChannelRows {
  using T = typename A::T;
  const T* rows[kTileInputs];
  T left[kTileInputs], right[kTileInputs];
};

// Two rows of the terms (kPairTerms) of a vector of tiles, from the h-th on: what is between the two transforms stays
// in registers.
template <class A, int pair, class Between>
FASTSR_INLINE void pair_in(const ChannelRows<A>& x, int h, typename A::T* v, std::ptrdiff_t panel,
                           const Between& between) {
  using V = typename A::V;
  V t[2][kTileInputs];
#pragma GCC unroll 6
  for (int j = 0; j < kTileInputs; ++j) {
    V d[kTileInputs];
#pragma GCC unroll 6
    for (int i = pair < 2 ? 1 : 0; i < (pair < 2 ? 5 : 6); ++i) {
      const typename A::T* row = x.rows[i] + h;
      if (j == 0) {
        d[i] = h == 0 ? shift_up(load(row + 3 * kTilesInGroup), x.left[i]) : load(row + 3 * kTilesInGroup - 1);
      } else if (j == 5) {
        d[i] = h + V::kSize == kTilesInGroup ? shift_down(load(row), x.right[i]) : load(row + 1);
      } else {
        d[i] = load(row + (j - 1) * kTilesInGroup);
      }
    }
    input_pair<pair>(d, t[0][j], t[1][j]);
    if (j % 2 == 1) between();
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    V o[kTileInputs];
    transform_input(t[i], o);
#pragma GCC unroll 6
    for (int j = 0; j < kTileInputs; ++j) store(v + (kPairTerms[pair][i] * kTileInputs + j) * panel + h, o[j]);
    between();
  }
}

template <class A, class Between>
FASTSR_INLINE void channel_in(const ChannelRows<A>& x, typename A::T* v, std::ptrdiff_t panel, const Between& between) {
  for (int h = 0; h < kTilesInGroup; h += A::V::kSize) {
    pair_in<A, 0>(x, h, v, panel, between);
    pair_in<A, 1>(x, h, v, panel, between);
    pair_in<A, 2>(x, h, v, panel, between);
  }
}

// Channels, or cells, of a group in tiles.
template <class A, class Between>
FASTSR_INLINE void tiled_in(const TileGroup& g, Channels channels, typename A::T* v, std::ptrdiff_t panel,
                            const Between& between) {
  using T = typename A::T;
  for (int c = channels.begin; c < channels.end; ++c) {
    ChannelRows<A> x;
    for (int i = 0; i < kTileInputs; ++i) {
      const T* before = reinterpret_cast<const T*>(g.x_left[i]);
      const T* behind = reinterpret_cast<const T*>(g.x_right[i]);
      x.rows[i] = g.x[i] ? reinterpret_cast<const T*>(g.x[i]) + c * kBlockColumns : reinterpret_cast<const T*>(kZeros);
      x.left[i] = before ? before[c] : T{0};
      x.right[i] = behind ? behind[c] : T{0};
    }
    for (int i = 0; i < kTileInputs; ++i) {
      if (g.x[i]) fetch(x.rows[i] + kFetchAhead * kBlockColumns);
    }
    channel_in(x, v + c * kTilesInGroup, panel, between);
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

void plain_in(const WinogradPiece& a, const TileGroup& g, float* v, std::ptrdiff_t panel) {
  alignas(64) float tiles[kTileInputs][kBlockColumns];
  ChannelRows<InFloats> row{};
  for (int i = 0; i < kTileInputs; ++i) row.rows[i] = g.x[i] ? tiles[i] : kZeros;
  for (int c = 0; c < a.conv->inputs; ++c, v += kTilesInGroup) {
    for (int i = 0; i < kTileInputs; ++i) {
      if (!g.x[i]) continue;
      const float* x = g.x[i] + c * a.x_pitch;
      to_tiles(x, g.x_begin, g.x_end, tiles[i]);
      row.left[i] = pixel_or_zero(x, g.x_begin, g.x_end, -1);
      row.right[i] = pixel_or_zero(x, g.x_begin, g.x_end, kBlockColumns);
    }
    channel_in(row, v, panel, DoNothing());
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

  // Of the first operand; a layer seldom has more.
  FASTSR_INLINE void fetch_ahead(int i, int channel) const {
    if (other[0][i]) fetch(other[0][i] + (channel + kFetchAhead) * other_pitch[0]);
  }
};

inline Vec packed_operand(const BoundStep& s, const float* cells, int k) {
  const Cells pair = load(reinterpret_cast<const Cell*>(cells));
  return mul(to_floats(k % 2 == 0 ? even_halves(pair) : odd_halves(pair)), broadcast(s.other_scale[k]));
}

// Steps that row_steps<A, true> knows.
inline bool usual_steps(const WinogradPiece& a) {
  for (int n = 0; n < a.step_count; ++n) {
    const StepOp op = a.steps[n].op;
    if (op == StepOp::clip || op == StepOp::affine || op == StepOp::tanh) return false;
  }
  return true;
}

// The layer's steps on row i of a channel, 4 vectors that stay in registers.
template <class A, bool usual>
FASTSR_INLINE void row_steps(const WinogradPiece& a, const GroupRows& rows, int i, int k, int at, Vec* y) {
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
      case StepOp::sigmoid: FASTSR_EACH(A::sigmoid(v));
      case StepOp::clip:
        if (usual) break;
        FASTSR_EACH(min(max(v, broadcast(s.a)), broadcast(s.b)));
      case StepOp::affine:
        if (usual) break;
        FASTSR_EACH(fma(v, broadcast(s.tensor0[k]), broadcast(s.tensor1[k])));
      case StepOp::tanh:
        if (usual) break;
        FASTSR_EACH(tanh_vec(v));
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

// Rows `half` and half + 2 of one channel's outputs, finished and in the order of the output's layout: emit(row, 4
// vectors). What is between the two transforms stays in registers.
template <class A, int half, bool tiled, bool usual, class Emit, class Between>
FASTSR_INLINE void half_out(const WinogradPiece& a, const GroupRows& rows, const typename A::T* sums,
                            std::ptrdiff_t panel, int k, int h, const Emit& emit, const Between& between) {
  Vec t[2][kTileInputs];
#pragma GCC unroll 6
  for (int j = 0; j < kTileInputs; ++j) {
    Vec m[kTileInputs];
#pragma GCC unroll 6
    for (int i = half; i < half + 5; ++i) m[i] = A::floats(load(sums + (i * kTileInputs + j) * panel));
    A::template output<half>(m, t[0][j], t[1][j]);
    if (j % 2 == 1) between();
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) {
    Vec y[4], o[4];
    A::template output<0>(t[r], y[0], y[2]);
    A::template output<1>(t[r], y[1], y[3]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) y[j] = A::finish(*a.conv, k, y[j]);
    if (tiled) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) o[j] = y[j];
    } else {
      interleave(y, o);
    }
    row_steps<A, usual>(a, rows, half + 2 * r, k, tiled ? h : h * 4, o);
    emit(half + 2 * r, o);
    between();
  }
}

// All rows of one channel: a vector of tiles, from the h-th on.
template <class A, bool tiled, bool usual, class Emit, class Between>
FASTSR_INLINE void channel_out(const WinogradPiece& a, const GroupRows& rows, const typename A::T* sums,
                               std::ptrdiff_t panel, int k, int h, const Emit& emit, const Between& between) {
  half_out<A, 0, tiled, usual>(a, rows, sums, panel, k, h, emit, between);
  half_out<A, 1, tiled, usual>(a, rows, sums, panel, k, h, emit, between);
}

// Of one group: the channels of one block.
template <class A, bool usual, class Between>
FASTSR_INLINE void tiled_out(const WinogradPiece& a, const TileGroup& g, Channels channels, const typename A::T* sums,
                             std::ptrdiff_t panel, const Between& between) {
  GroupRows rows;
  rows.step = kTilesInGroup;
  rows.packed = false;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = kBlockColumns;
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = g.other[n][i];
  }
  for (int k = channels.begin; k < channels.end; ++k, sums += kTilesInGroup) {
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      const auto emit = [&](int i, const Vec* o) __attribute__((always_inline)) {
        if (!g.y[i]) return;
        float* y = g.y[i] + k * kBlockColumns + h;
        fetch_to_write(y + kFetchAhead * kBlockColumns);
        rows.fetch_ahead(i, k);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store(y + j * kTilesInGroup, o[j]);
      };
      channel_out<A, true, usual>(a, rows, sums + h, panel, k, h, emit, between);
    }
  }
}

// Channel by channel: the even one of a pair waits for the odd one, which is zero where there is none.
template <class A, bool usual, class Between>
FASTSR_INLINE void packed_out(const WinogradPiece& a, const TileGroup& g, Channels channels, const typename A::T* sums,
                              std::ptrdiff_t panel, const Between& between) {
  const Quantizer& q = *a.y_quantizer;
  GroupRows rows;
  rows.step = kTilesInGroup;
  rows.packed = true;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = kBlockColumns;
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = g.other[n][i];
  }
  alignas(64) Cell evens[kTileRows][kBlockColumns];
  const auto join = [&](int i, int k, int at, Cells odd) __attribute__((always_inline)) {
    store(reinterpret_cast<Cell*>(g.y[i]) + k / 2 * kBlockColumns + at, join_even(load(evens[i] + at), odd));
  };
  for (int k = channels.begin; k < channels.end; ++k, sums += kTilesInGroup) {
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      const auto emit = [&](int i, const Vec* o) __attribute__((always_inline)) {
        if (k % 2 == 0) {
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) store(evens[i] + j * kTilesInGroup + h, quantized(q, k, o[j]));
        } else if (g.y[i]) {
          fetch_to_write(g.y[i] + (k / 2 + kFetchAhead) * kBlockColumns);
          rows.fetch_ahead(i, k / 2);
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) join(i, k, j * kTilesInGroup + h, quantized(q, k, o[j]));
        }
      };
      channel_out<A, true, usual>(a, rows, sums + h, panel, k, h, emit, between);
    }
  }
  for (int i = 0; channels.end % 2 == 1 && i < kTileRows; ++i) {
    if (!g.y[i]) continue;
    const Cells zero = quantized(q, channels.end, broadcast(0.0f));
    for (int x = 0; x < kBlockColumns; x += Vec::kSize) join(i, channels.end, x, zero);
  }
}

template <class A, bool usual, class Between>
FASTSR_INLINE void plain_out(const WinogradPiece& a, const TileGroup& g, Channels channels, const typename A::T* sums,
                             std::ptrdiff_t panel, const Between& between) {
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
  for (int k = channels.begin; k < channels.end; ++k, sums += kTilesInGroup) {
    for (int n = 0; partial && n < kMaxOperands; ++n) {
      for (int i = 0; i < kTileRows; ++i) {
        if (!g.other[n][i]) continue;
        const float* other = g.other[n][i] + k * a.other_pitch[n];
        for (int x = 0; x < kBlockColumns; ++x) others[n][i][x] = x >= g.y_begin && x < g.y_end ? other[x] : 0.0f;
      }
    }
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      const auto emit = [&](int i, const Vec* o) __attribute__((always_inline)) {
        if (!g.y[i]) return;
        float* y = (partial ? whole[i] : g.y[i] + k * a.y_pitch) + h * 4;
        if (h == 0) fetch_to_write(g.y[i] + (k + kFetchAhead) * a.y_pitch);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store(y + j * Vec::kSize, o[j]);
      };
      channel_out<A, false, usual>(a, rows, sums + h, panel, k, h, emit, between);
    }
    for (int i = 0; partial && i < kTileRows; ++i) {
      if (!g.y[i]) continue;
      for (int x = g.y_begin; x < g.y_end; ++x) g.y[i][k * a.y_pitch + x] = whole[i][x];
    }
  }
  for (int i = 0; g.last && i < kTileRows; ++i) {
    if (g.y[i]) clear_pad(g.y[i] + channels.begin * a.y_pitch, a.y_pitch, channels.end - channels.begin, g.y_end);
  }
}

template <class A, Layout to, bool usual, class Between>
FASTSR_INLINE void blocks_out(const WinogradPiece& a, const TileGroup& g, Channels channels, const typename A::T* sums,
                              std::ptrdiff_t panel, const Between& between) {
  if constexpr (to == Layout::packed) {
    packed_out<A, usual>(a, g, channels, sums, panel, between);
  } else if constexpr (to == Layout::plain) {
    plain_out<A, usual>(a, g, channels, sums, panel, between);
  } else {
    tiled_out<A, usual>(a, g, channels, sums, panel, between);
  }
}

// What comes last in a block's rows.
template <Layout to>
void close_block(const WinogradPiece& a, const TileGroup& g, Channels channels) {
  if (to == Layout::plain) return;
  using B = std::conditional_t<to == Layout::packed, InIntegers, InFloats>;
  const bool packed = to == Layout::packed;
  const int first = packed ? channels.begin / 2 : channels.begin;
  const int count = packed ? cells_of(channels.end - channels.begin) : channels.end - channels.begin;
  const int all = packed ? cells_of(a.conv->channels) : a.conv->channels;
  for (int i = 0; i < kTileRows; ++i) {
    if (!g.y[i]) continue;
    typename B::T* y = reinterpret_cast<typename B::T*>(g.y[i]);
    if (g.image_end < kBlockColumns) clear_block<B>(y + first * kBlockColumns, count, g.image_end);
    copy_edges<B>(y, first, count, all);
  }
}

// ---- a piece ----

// Transforms that are done while a block is multiplied: the outputs of the block before, and some of the inputs of the
// group behind.
template <class A>
struct Meanwhile {
  const TileGroup* out = nullptr;
  Channels out_channels;
  const typename A::T* sums = nullptr;
  const TileGroup* in = nullptr;
  Channels in_channels;
  typename A::T* v = nullptr;
};

constexpr int kPartsOfChannelOut = 10, kPartsOfChannelIn = 15;  // calls of `between`

template <class A, Layout to, int M>
void multiply_with(const WinogradPiece& a, const Product<A>& p, const Meanwhile<A>& m) {
  RunningProduct<A, M> product(p);
  const int parts = kPartsOfChannelOut * (m.out_channels.end - m.out_channels.begin) +
                    kPartsOfChannelIn * (m.in_channels.end - m.in_channels.begin);
  const int whole = parts > 0 ? (kTileTerms * p.inputs + parts / 2) / parts : 0;
  const int each = whole > 0 ? whole : 1;
  const auto between = [&]() __attribute__((always_inline)) { product.run(each); };
  if (m.out) blocks_out<A, to, true>(a, *m.out, m.out_channels, m.sums, p.sum_panel, between);
  if (m.in) tiled_in<A>(*m.in, m.in_channels, m.v, p.input_panel, between);
  product.finish();
}

template <class A, Layout to>
using MultiplyWith = void (*)(const WinogradPiece&, const Product<A>&, const Meanwhile<A>&);

template <class A, Layout to, int M = kMaxTileBlock>
MultiplyWith<A, to> pick_multiply_with(int m) {
  if constexpr (M > 2) {
    if (m < M) return pick_multiply_with<A, to, M - 2>(m);
  }
  return &multiply_with<A, to, M>;
}

template <class A, int M = kMaxTileBlock>
void (*pick_multiply(int m))(const Product<A>&) {
  if constexpr (M > 2) {
    if (m < M) return pick_multiply<A, M - 2>(m);
  }
  return &multiply<A, M>;
}

template <class A, Layout to>
void out_block(const WinogradPiece& a, const TileGroup& g, Channels channels, const typename A::T* sums,
               std::ptrdiff_t panel) {
  blocks_out<A, to, false>(a, g, channels, sums, panel, DoNothing());
  close_block<to>(a, g, channels);
}

template <class A>
void group_in(const WinogradPiece& a, const TileGroup& g, typename A::T* v, std::ptrdiff_t panel) {
  if constexpr (std::is_same_v<A, InFloats>) {
    if (a.x_layout == Layout::plain) return plain_in(a, g, v, panel);
  }
  tiled_in<A>(g, {0, a.conv->inputs}, v, panel, DoNothing());
}

// One group after the other, and in it one block of output channels after the other.
template <class A, Layout to>
void winograd_piece(const WinogradPiece& a) {
  using T = typename A::T;
  const PackedWinograd& conv = *a.conv;
  const WinogradScratch at = winograd_scratch(conv.inputs, conv.channels);
  T* const scratch = reinterpret_cast<T*>(a.scratch);
  const int count = static_cast<int>(conv.blocks.size());
  const bool out_later = A::kInterleaves && usual_steps(a);
  const bool in_early = A::kInterleaves && a.x_layout != Layout::plain;
  TileGroup groups[3];  // the one before, whose last outputs are yet to come; the one at hand; the one behind
  Meanwhile<A> m;
  if (!a.next(a.context, groups[0])) return;
  group_in<A>(a, groups[0], scratch + at.inputs, at.input_panel);
  bool more = true;
  for (int n = 0, block = 0; more; ++n) {
    const TileGroup& g = groups[n % 3];
    TileGroup& behind = groups[(n + 1) % 3];
    more = a.next(a.context, behind);
    T* const v = scratch + at.inputs + n % 2 * at.input_size;
    T* const next = scratch + at.inputs + (n + 1) % 2 * at.input_size;
    const T* u = reinterpret_cast<const T*>(conv.weights.data());
    for (int b = 0; b < count; ++b, ++block) {
      const WinogradBlock& k = conv.blocks[static_cast<std::size_t>(b)];
      const Channels channels{k.k0, k.k0 + k.count};
      const int width = 2 * cells_of(k.count);
      T* const sums = scratch + block % 2 * at.sum_size;
      const Product<A> p{v, u, sums, at.input_panel, at.sum_panel, conv.inputs};
      u += std::ptrdiff_t{kTileTerms} * conv.inputs * width;
      if constexpr (A::kInterleaves) {
        m.in = in_early && more ? &behind : nullptr;
        m.in_channels = m.in ? Channels{conv.inputs * b / count, conv.inputs * (b + 1) / count} : Channels{};
        m.v = next;
        pick_multiply_with<A, to>(width)(a, p, m);
        if (m.out) close_block<to>(a, *m.out, m.out_channels);
      } else {
        pick_multiply<A>(width)(p);
      }
      if (out_later) {
        m.out = &g;
        m.out_channels = channels;
        m.sums = sums;
      } else {
        out_block<A, to>(a, g, channels, sums, at.sum_panel);
      }
    }
    if (more && !in_early) group_in<A>(a, behind, next, at.input_panel);
  }
  if (m.out) out_block<A, to>(a, *m.out, m.out_channels, m.sums, at.sum_panel);
}

template <class A>
void winograd_to(const WinogradPiece& a) {
  switch (a.y_layout) {
    case Layout::tiled: return winograd_piece<A, Layout::tiled>(a);
    case Layout::packed: return winograd_piece<A, Layout::packed>(a);
    default: return winograd_piece<A, Layout::plain>(a);
  }
}

void winograd(const WinogradPiece& a) { winograd_to<InFloats>(a); }

// The input is packed.
template <class A>
void winograd_int(const WinogradPiece& a) {
  winograd_to<A>(a);
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
