// Winograd's algorithm, once for all ISA levels: included by kernels.inl. The sums run over the input channels in their
// order, from zero; the transforms are the same operations in the same order at each level.

namespace fastsr {
namespace {

static_assert(kTilesInGroup % Vec::kSize == 0, "a group is whole vectors");

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

// A^T m
inline void transform_output(const Vec* m, Vec* y) {
  const Vec a = add(m[1], m[2]), b = sub(m[1], m[2]), c = add(m[3], m[4]), d = sub(m[3], m[4]);
  y[0] = add(add(m[0], a), c);
  y[1] = fma(broadcast(2.0f), d, b);
  y[2] = fma(broadcast(4.0f), c, a);
  y[3] = add(fma(broadcast(8.0f), d, b), m[5]);
}

// One channel of a group: rows[i] is its run of 64 floats in tiles.
inline void channel_in(const float* const* rows, const float* left, const float* right, float* v,
                       std::ptrdiff_t panel) {
  for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
    Vec inner[4][kTileInputs];  // [row 1..4 of the transform][column]
    alignas(64) float outer[2][kTileInputs][Vec::kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kTileInputs; ++j) {
      Vec d[kTileInputs], t[kTileInputs];
#pragma GCC unroll 6
      for (int i = 0; i < kTileInputs; ++i) {
        const float* row = rows[i] + h;
        if (j == 0) {
          d[i] = h == 0 ? shift_up(load(row + 3 * kTilesInGroup), left[i]) : load(row + 3 * kTilesInGroup - 1);
        } else if (j == 5) {
          d[i] = h + Vec::kSize == kTilesInGroup ? shift_down(load(row), right[i]) : load(row + 1);
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
      Vec t[kTileInputs];
      transform_input(inner[i], t);
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) store(v + ((i + 1) * kTileInputs + j) * panel + h, t[j]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      Vec d[kTileInputs], t[kTileInputs];
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) d[j] = load(outer[i][j]);
      transform_input(d, t);
#pragma GCC unroll 6
      for (int j = 0; j < kTileInputs; ++j) store(v + (i * 5 * kTileInputs + j) * panel + h, t[j]);
    }
  }
}

alignas(64) constexpr float kZeros[kBlockColumns] = {};

void tiled_in(const WinogradPiece& a, const TileGroup& g, float* v, std::ptrdiff_t panel, int vectors) {
  const int channels = a.conv->input_channels;
  const float* rows[kTileInputs];
  float left[kTileInputs], right[kTileInputs];
  for (int c = 0; c < channels; ++c, v += vectors) {
    for (int i = 0; i < kTileInputs; ++i) {
      rows[i] = g.x[i] ? g.x[i] + c * kBlockColumns : kZeros;
      left[i] = g.x[i] ? g.x_edges[i][c] : 0.0f;
      right[i] = g.x[i] ? g.x_edges[i][channels + c] : 0.0f;
    }
    channel_in(rows, left, right, v, panel);
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
  for (int c = 0; c < a.conv->input_channels; ++c, v += vectors) {
    for (int i = 0; i < kTileInputs; ++i) {
      if (!g.x[i]) continue;
      const float* x = g.x[i] + c * a.x_pitch;
      to_tiles(x, g.x_begin, g.x_end, tiles[i]);
      left[i] = pixel_or_zero(x, g.x_begin, g.x_end, -1);
      right[i] = pixel_or_zero(x, g.x_begin, g.x_end, kBlockColumns);
    }
    channel_in(rows, left, right, v, panel);
  }
}

// ---- products ----

// M output channels x N vectors of tiles: sums[m][n] = sum over c of u[c][m] * v[c][n].
template <int M, int N>
void multiply_block(const float* v, const float* u, float* sums, int channels, int vectors) {
  Vec acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = broadcast(0.0f);
  }
  for (int c = 0; c < channels; ++c, v += vectors, u += M) {
    Vec in[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) in[n] = load(v + n * Vec::kSize);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec weight = broadcast(u[m]);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) acc[m][n] = fma(weight, in[n], acc[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(sums + m * vectors + n * Vec::kSize, acc[m][n]);
  }
}

using MultiplyFunction = void (*)(const float*, const float*, float*, int, int);

template <int N, int M = kMaxTileBlock>
MultiplyFunction pick_multiply(int m) {
  if constexpr (M > 1) {
    if (m < M) return pick_multiply<N, M - 1>(m);
  }
  return &multiply_block<M, N>;
}

// All terms of a pass: sums[term][k][tiles] from v[term][c][tiles]. `sums` may lie one panel before `v`.
void multiply(const PackedWinograd& conv, const WinogradPass& pass, const float* v, float* sums, std::ptrdiff_t panel,
              int vectors) {
  const float* u = conv.weights.data() + pass.weights;
  const int channels = conv.input_channels;
  const int count = vectors / Vec::kSize;
  for (int term = 0; term < kTileTerms; ++term, v += panel, sums += panel) {
    float* to = sums;
    for (const WinogradBlock& block : pass.blocks) {
      int n = 0;
      for (; n + kTileVectors <= count; n += kTileVectors) {
        pick_multiply<kTileVectors>(block.count)(v + n * Vec::kSize, u, to + n * Vec::kSize, channels, vectors);
      }
      if constexpr (kTileVectors > 2) {
        if (n + 2 <= count) {
          pick_multiply<2>(block.count)(v + n * Vec::kSize, u, to + n * Vec::kSize, channels, vectors);
          n += 2;
        }
      }
      for (; n < count; ++n) {
        pick_multiply<1>(block.count)(v + n * Vec::kSize, u, to + n * Vec::kSize, channels, vectors);
      }
      u += channels * block.count;
      to += block.count * vectors;
    }
  }
}

// ---- out ----

// The 4 rows of a group as a list of steps sees them: vector (i, j) is y[i] + channel * pitch + j * step + at.
struct GroupRows {
  const float* other[kMaxOperands][kTileRows];
  std::ptrdiff_t other_pitch[kMaxOperands];
  int step;
};

inline void group_step(const BoundStep& s, const GroupRows& rows, int operand, int k, int at, Vec (*o)[4]) {
  const Vec zero = broadcast(0.0f);
#define FASTSR_EACH(expression)         \
  for (int i = 0; i < kTileRows; ++i) { \
    for (int j = 0; j < 4; ++j) {       \
      const Vec v = o[i][j];            \
      o[i][j] = (expression);           \
    }                                   \
  }                                     \
  return
  switch (s.op) {
    case StepOp::relu: FASTSR_EACH(max(v, zero));
    case StepOp::leaky_relu: {
      const Vec slope = broadcast(s.a);
      FASTSR_EACH(where_positive(v, v, mul(v, slope)));
    }
    case StepOp::prelu: {
      const Vec slope = broadcast(s.tensor0[k]);
      FASTSR_EACH(where_positive(v, v, mul(v, slope)));
    }
    case StepOp::sigmoid: FASTSR_EACH(sigmoid_vec(v));
    case StepOp::tanh: FASTSR_EACH(tanh_vec(v));
    case StepOp::clip: FASTSR_EACH(min(max(v, broadcast(s.a)), broadcast(s.b)));
    case StepOp::affine: FASTSR_EACH(fma(v, broadcast(s.tensor0[k]), broadcast(s.tensor1[k])));
    case StepOp::add:
    case StepOp::mul: break;
  }
#undef FASTSR_EACH
  for (int i = 0; i < kTileRows; ++i) {
    const float* other = rows.other[operand][i];
    if (!other) continue;  // a row that is not wanted
    other += k * rows.other_pitch[operand] + at;
    for (int j = 0; j < 4; ++j) {
      const Vec w = load(other + j * rows.step);
      o[i][j] = s.op == StepOp::add ? add(o[i][j], w) : mul(o[i][j], w);
    }
  }
}

// Zero the pixels of a block from column `end` on, of all channels.
inline void clear_block(float* y, int channels, int end) {
  for (int k = 0; k < channels; ++k) {
    for (int x = end; x < kBlockColumns; ++x) {
      y[k * kBlockColumns + x % kTileRows * kTilesInGroup + x / kTileRows] = 0.0f;
    }
  }
}

// What the neighbours of a finished block see of it, and what it sees beyond the row's ends: nothing.
inline void share_edges(const float* y, float* edges, int k0, int count, int channels, bool first, bool last) {
  for (int k = k0; k < k0 + count; ++k) {
    const float* block = y + k * kBlockColumns;
    if (first) {
      edges[k] = 0.0f;
    } else {
      edges[k - channels] = block[0];  // the right edge of the block before
    }
    if (last) {
      edges[channels + k] = 0.0f;
    } else {
      edges[2 * channels + k] = block[kBlockColumns - 1];  // the left edge of the block behind
    }
  }
}

// One channel's 4 rows of outputs, finished and in the order of the output's layout.
template <bool tiled>
inline void finish_channel(const WinogradPiece& a, const GroupRows& rows, const float* sums, std::ptrdiff_t panel,
                           int k, int h, Vec (*o)[4]) {
  Vec t[kTileRows][kTileInputs];
#pragma GCC unroll 6
  for (int j = 0; j < kTileInputs; ++j) {
    Vec m[kTileInputs], y[kTileRows];
#pragma GCC unroll 6
    for (int i = 0; i < kTileInputs; ++i) m[i] = load(sums + (i * kTileInputs + j) * panel);
    transform_output(m, y);
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) t[i][j] = y[i];
  }
  const Vec bias = broadcast(a.conv->bias.data()[k]);
#pragma GCC unroll 4
  for (int i = 0; i < kTileRows; ++i) {
    Vec y[4];
    transform_output(t[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) y[j] = add(y[j], bias);
    if (tiled) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) o[i][j] = y[j];
    } else {
      interleave(y, o[i]);
    }
  }
  const int at = tiled ? h : h * 4;
  int operand = 0;
  for (int s = 0; s < a.step_count; ++s) {
    const BoundStep& step = a.steps[s];
    group_step(step, rows, operand, k, at, o);
    if (step.op == StepOp::add || step.op == StepOp::mul) ++operand;
  }
}

void tiled_out(const WinogradPiece& a, const TileGroup& g, const WinogradPass& pass, const float* sums,
               std::ptrdiff_t panel, int vectors) {
  GroupRows rows;
  rows.step = kTilesInGroup;
  for (int n = 0; n < kMaxOperands; ++n) {
    rows.other_pitch[n] = kBlockColumns;
    for (int i = 0; i < kTileRows; ++i) rows.other[n][i] = g.other[n][i];
  }
  for (int k = pass.k0; k < pass.k0 + pass.count; ++k, sums += vectors) {
    for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
      Vec o[kTileRows][4];
      finish_channel<true>(a, rows, sums + h, panel, k, h, o);
      for (int i = 0; i < kTileRows; ++i) {
        if (!g.y[i]) continue;
        float* y = g.y[i] + k * kBlockColumns + h;
        for (int j = 0; j < 4; ++j) store(y + j * kTilesInGroup, o[i][j]);
      }
    }
  }
  for (int i = 0; i < kTileRows; ++i) {
    if (!g.y[i]) continue;
    if (g.image_end < kBlockColumns) clear_block(g.y[i] + pass.k0 * kBlockColumns, pass.count, g.image_end);
    share_edges(g.y[i], g.y_edges[i], pass.k0, pass.count, a.conv->channels, g.first, g.last);
  }
}

void plain_out(const WinogradPiece& a, const TileGroup& g, const WinogradPass& pass, const float* sums,
               std::ptrdiff_t panel, int vectors) {
  alignas(64) float whole[kTileRows][kBlockColumns];
  alignas(64) float others[kMaxOperands][kTileRows][kBlockColumns];
  const bool partial = g.y_begin > 0 || g.y_end < kBlockColumns;
  GroupRows rows;
  rows.step = Vec::kSize;
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
      Vec o[kTileRows][4];
      finish_channel<false>(a, rows, sums + h, panel, k, h, o);
      for (int i = 0; i < kTileRows; ++i) {
        if (!g.y[i]) continue;
        float* y = (partial ? whole[i] : g.y[i] + k * a.y_pitch) + h * 4;
        for (int j = 0; j < 4; ++j) store(y + j * Vec::kSize, o[i][j]);
      }
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

void winograd(const WinogradPiece& a) {
  conv_rows.fetch_add(1, std::memory_order_relaxed);
  const PackedWinograd& conv = *a.conv;
  const int vectors = a.group_count * kTilesInGroup;  // floats of a channel in a panel
  const std::ptrdiff_t panel = winograd_panel(conv.input_channels, conv.channels, a.group_count);
  const bool single = conv.passes.size() == 1;
  float* v = single ? a.scratch + panel : a.scratch;
  float* sums = single ? a.scratch : a.scratch + kTileTerms * panel;
  for (int n = 0; n < a.group_count; ++n) {
    float* to = v + n * kTilesInGroup;
    if (a.x_layout == Layout::tiled) {
      tiled_in(a, a.groups[n], to, panel, vectors);
    } else {
      plain_in(a, a.groups[n], to, panel, vectors);
    }
  }
  for (const WinogradPass& pass : conv.passes) {
    multiply(conv, pass, v, sums, panel, vectors);
    for (int n = 0; n < a.group_count; ++n) {
      const float* from = sums + n * kTilesInGroup;
      if (a.y_layout == Layout::tiled) {
        tiled_out(a, a.groups[n], pass, from, panel, vectors);
      } else {
        plain_out(a, a.groups[n], pass, from, panel, vectors);
      }
    }
  }
}

void relayout(const RelayoutRow& a) {
  float* edges = a.y + a.blocks * a.channels * kBlockColumns;
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    const std::int64_t from = b * kBlockColumns - a.x_begin;  // column of x at the block's column 0
    const int begin = from < 0 ? static_cast<int>(-from) : 0;
    const int end = a.width - from < kBlockColumns ? static_cast<int>(a.width - from) : kBlockColumns;
    for (int c = 0; c < a.channels; ++c) {
      to_tiles(a.x + c * a.x_pitch + from, begin, end, a.y + (b * a.channels + c) * kBlockColumns);
    }
  }
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    share_edges(a.y + b * a.channels * kBlockColumns, edges + b * 2 * a.channels, 0, a.channels, a.channels, b == 0,
                b == a.blocks - 1);
  }
}

}  // namespace
}  // namespace fastsr
