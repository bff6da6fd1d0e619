// Pixel shuffle, once for all ISA levels: included by kernels.inl.

namespace fastsr {
namespace {

// y[f i + dx] = planes[dx][i]
inline void interleave_planes(const float* const* planes, int f, std::int64_t count, float* y) {
  std::int64_t i = 0;
  if (f == 2) {
    for (; i + Vec::kSize <= count; i += Vec::kSize) {
      const Vec in[2] = {load(planes[0] + i), load(planes[1] + i)};
      Vec out[2];
      interleave2(in, out);
      store(y + 2 * i, out[0]);
      store(y + 2 * i + Vec::kSize, out[1]);
    }
  }
  for (; i < count; ++i) {
    for (int dx = 0; dx < f; ++dx) y[f * i + dx] = planes[dx][i];
  }
}

// A block of tiles as 64 columns in their order.
inline void from_tiles(const float* tiles, float* columns) {
  for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
    Vec in[4], out[4];
    for (int p = 0; p < 4; ++p) in[p] = load(tiles + p * kTilesInGroup + h);
    interleave(in, out);
    for (int j = 0; j < 4; ++j) store(columns + h * 4 + j * Vec::kSize, out[j]);
  }
}

// Columns begin..end of block b.
struct BlockPart {
  int begin;
  int end;
  std::int64_t y;  // where the first of them goes
};

inline BlockPart part_of_block(const ShuffleRow& a, std::int64_t b) {
  const std::int64_t from = b * kBlockColumns - a.x_begin;  // column of the row at the block's column 0
  const int begin = from < 0 ? static_cast<int>(-from) : 0;
  const int end = a.width - from < kBlockColumns ? static_cast<int>(a.width - from) : kBlockColumns;
  return {begin, end, (from + begin) * a.factor};
}

void shuffle_plain(const ShuffleRow& a) {
  const float* planes[kMaxShuffle];
  for (int c = 0; c < a.channels; ++c) {
    for (int dy = 0; dy < a.factor; ++dy) {
      for (int dx = 0; dx < a.factor; ++dx) planes[dx] = a.x + ((c * a.factor + dy) * a.factor + dx) * a.x_pitch;
      interleave_planes(planes, a.factor, a.width, a.y[dy] + c * a.y_pitch);
    }
  }
}

void shuffle_tiled(const ShuffleRow& a) {
  alignas(64) float columns[kMaxShuffle][kBlockColumns];
  const float* planes[kMaxShuffle];
  const int f = a.factor;
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    const BlockPart part = part_of_block(a, b);
    const float* block = a.x + b * block_words(a.channels * f * f);
    for (int c = 0; c < a.channels; ++c) {
      for (int dy = 0; dy < f; ++dy) {
        for (int dx = 0; dx < f; ++dx) {
          from_tiles(block + ((c * f + dy) * f + dx) * kBlockColumns, columns[dx]);
          planes[dx] = columns[dx] + part.begin;
        }
        interleave_planes(planes, f, part.end - part.begin, a.y[dy] + c * a.y_pitch + part.y);
      }
    }
  }
}

// From tiles of cells to rows of cells, by a factor of 2: a cell holds two pixels of one channel side by side, and
// becomes half of two cells, which hold two channels of one pixel.
void shuffle_cells(const ShuffleRow& a) {
  alignas(64) float columns[2][kBlockColumns];  // the bits of cells
  alignas(64) constexpr Cell kNoChannel[kBlockColumns] = {};
  for (std::int64_t b = 0; b < a.blocks; ++b) {
    const BlockPart part = part_of_block(a, b);
    const Cell* block = reinterpret_cast<const Cell*>(a.x) + b * block_words(a.channels * 2);
    const float* planes[2] = {columns[0] + part.begin, columns[1] + part.begin};
    for (int c = 0; c < a.channels; c += 2) {
      for (int dy = 0; dy < 2; ++dy) {
        const Cell* even = block + (c * 2 + dy) * kBlockColumns;
        const Cell* odd = c + 1 < a.channels ? even + 2 * kBlockColumns : kNoChannel;
        for (int h = 0; h < kTilesInGroup; h += Vec::kSize) {
          Vec in[2][4], out[2][4];
          for (int p = 0; p < 4; ++p) {
            const int at = p * kTilesInGroup + h;
            const Cells x = load(even + at), y = load(odd + at);
            in[0][p] = as_floats(join_even(x, y));
            in[1][p] = as_floats(join_odd(x, y));
          }
          for (int dx = 0; dx < 2; ++dx) {
            interleave(in[dx], out[dx]);
            for (int j = 0; j < 4; ++j) store(columns[dx] + h * 4 + j * Vec::kSize, out[dx][j]);
          }
        }
        interleave_planes(planes, 2, part.end - part.begin, a.y[dy] + c / 2 * a.y_pitch + part.y);
      }
    }
  }
}

void shuffle(const ShuffleRow& a) {
  switch (a.x_layout) {
    case Layout::tiled: shuffle_tiled(a); break;
    case Layout::packed: shuffle_cells(a); break;
    default: shuffle_plain(a); break;
  }
  const int words = a.x_layout == Layout::packed ? cells_of(a.channels) : a.channels;
  for (int dy = 0; dy < a.factor; ++dy) clear_pad(a.y[dy], a.y_pitch, words, a.y_width);
}

}  // namespace
}  // namespace fastsr
