// Convolution in one group on tensor cores: fp16 in, fp32 sums (mma.m16n8k16).
//
// A block makes 16x16 pixels of `tiles` x 8 output channels. It copies the input pixels that these need into shared
// memory, and multiplies there: the 16 pixels of a row are the 16 rows of A, and the products run over (tap, chunk of 8
// input channels), two chunks a step. As each chunk has an address of its own, 50 channels cost 7 chunks and 7 tiles
// where powers of two would cost 8 and 8. Weights lie in memory as the lanes want them (weights.cpp), and all blocks
// read the same ones. Between pixels in shared memory lies an odd number of chunks: no two of 8 neighbours share a
// bank.
#include "cuda/grid.hpp"
#include "cuda/kernels.hpp"
#include "cuda/values.hpp"

namespace fastsr::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kBlockThreads = 32 * kWarps;
constexpr int kRowsOfWarp = kTensorRows / kWarps;
constexpr int kChunkBytes = kChunk * static_cast<int>(sizeof(Half));

// A lane's part of B.
struct alignas(8) Fragment {
  std::uint32_t pairs[2];
};

// Of the table of where a step's chunks lie.
FASTSR_HD int table_bytes(const TensorShape& shape) {
  return (2 * shape.steps * static_cast<int>(sizeof(int)) + 15) / 16 * 16;
}

template <int Tiles>
struct TensorConv {
  ConvArgs a;

  // Floats from one pixel's sums to the next, where they wait for the steps: no conflicts between banks.
  static constexpr int kStaged = kChunk * (Tiles | 1);

  FASTSR_DEVICE void operator()(Thread& t) const {
    const int warp = t.index() / 32, lane = t.index() % 32;
    const int y0 = a.part.row_begin + t.block_y() * kTensorRows;
    const int x0 = a.part.column_begin + t.block_x() * kTensorColumns;
    const int across = kTensorColumns + a.kernel_w - 1;
    const int pitch = (a.shape.slab | 1) * kChunkBytes;
    int* offsets = reinterpret_cast<int*>(t.shared());
    unsigned char* pixels = t.shared() + table_bytes(a.shape);

    // Where the chunks of a step lie, from the pixel's own place on.
    for (int i = t.index(); i < 2 * a.shape.steps; i += kBlockThreads) {
      const int tap = i / a.shape.slab, chunk = i % a.shape.slab;
      const bool exists = tap < a.kernel_h * a.kernel_w;  // else its weights are zero
      offsets[i] = exists ? (tap / a.kernel_w * across + tap % a.kernel_w) * pitch + chunk * kChunkBytes : 0;
    }

    float sums[kRowsOfWarp][Tiles][4];
    FASTSR_UNROLL
    for (int m = 0; m < kRowsOfWarp; ++m) {
      FASTSR_UNROLL
      for (int j = 0; j < Tiles; ++j) {
        FASTSR_UNROLL
        for (int i = 0; i < 4; ++i) sums[m][j][i] = 0.0f;
      }
    }

    const unsigned char* mine = pixels + (warp * kRowsOfWarp * across + lane % 16) * pitch;
    const Fragment* w = static_cast<const Fragment*>(a.weights) +
                        static_cast<std::int64_t>(t.block_z()) * a.shape.slabs * a.shape.steps * Tiles * 32 + lane;
    for (int slab = 0; slab < a.shape.slabs; ++slab) {
      if (slab > 0) t.sync();  // until all have read the slab before
      copy_slab(t, slab, y0, x0, across, pitch, pixels);
      t.copied();
      t.sync();
      for (int step = 0; step < a.shape.steps; ++step, w += Tiles * 32) {
        Fragment b[Tiles];
        FASTSR_UNROLL
        for (int j = 0; j < Tiles; ++j) b[j] = w[j * 32];
        const unsigned char* from = mine + offsets[2 * step + lane / 16];
        FASTSR_UNROLL
        for (int m = 0; m < kRowsOfWarp; ++m) {
          std::uint32_t in[4];
          t.load_matrices(from + m * across * pitch, in);
          FASTSR_UNROLL
          for (int j = 0; j < Tiles; ++j) t.multiply(sums[m][j], in, b[j].pairs);
        }
      }
    }
    t.sync();  // the sums of the steps take the pixels' place
    finish(t, warp, lane, y0 + warp * kRowsOfWarp, x0, sums);
  }

  FASTSR_DEVICE void copy_slab(Thread& t, int slab, int y0, int x0, int across, int pitch,
                               unsigned char* pixels) const {
    const int down = kTensorRows + a.kernel_h - 1;
    const int top = y0 - a.kernel_h / 2, bottom = smaller(a.height, a.part.row_end + a.kernel_h / 2);
    const int left = x0 - a.kernel_w / 2, right = smaller(a.width, a.part.column_end + a.kernel_w / 2);
    for (int i = t.index(); i < across * a.shape.slab; i += kBlockThreads) {
      const int column = i / a.shape.slab, chunk = i % a.shape.slab, x = left + column;
      const int channel = (slab * a.shape.slab + chunk) * kChunk;
      const bool inside = x >= 0 && x < right && channel < a.x.pitch;
      unsigned char* to = pixels + column * pitch + chunk * kChunkBytes;
      for (int row = 0; row < down; ++row, to += across * pitch) {
        const int y = top + row;
        t.copy16(to, inside && y >= 0 && y < bottom ? pixel_of<Half>(a.x, y, x) + channel : nullptr);
      }
    }
  }

  // Bias and steps. A warp puts the sums of 16 pixels into shared memory, and takes them out by chunks of channels.
  FASTSR_DEVICE void finish(Thread& t, int warp, int lane, int y0, int x0,
                            const float (&sums)[kRowsOfWarp][Tiles][4]) const {
    float* staged = reinterpret_cast<float*>(t.shared()) + warp * 16 * kStaged;
    const int c0 = t.block_z() * Tiles * kChunk;
    FASTSR_UNROLL
    for (int m = 0; m < kRowsOfWarp; ++m) {
      FASTSR_UNROLL
      for (int j = 0; j < Tiles; ++j) {
        FASTSR_UNROLL
        for (int i = 0; i < 4; ++i) {
          staged[(lane / 4 + i / 2 * 8) * kStaged + j * kChunk + lane % 4 * 2 + i % 2] = sums[m][j][i];
        }
      }
      t.sync_warp();
      for (int i = lane; i < 16 * Tiles; i += 32) {
        const int column = i / Tiles, c = c0 + i % Tiles * kChunk;
        if (y0 + m >= a.part.row_end || x0 + column >= a.part.column_end || c >= a.y.pitch) continue;
        float v[kChunk];
        read8(staged + column * kStaged + i % Tiles * kChunk, v);
        FASTSR_UNROLL
        for (int k = 0; k < kChunk; ++k) v[k] += a.bias[c + k];
        finish8<Half>(a.steps, a.y, y0 + m, x0 + column, c, v, a.flags);
      }
      t.sync_warp();
    }
  }
};

template <int Tiles>
Status launch(const ConvArgs& args, Stream stream) {
  Grid grid;
  grid.x = (args.part.column_end - args.part.column_begin + kTensorColumns - 1) / kTensorColumns;
  grid.y = (args.part.row_end - args.part.row_begin + kTensorRows - 1) / kTensorRows;
  grid.z = args.shape.blocks;
  const int bytes = tensor_shared_bytes(args.shape, args.kernel_h, args.kernel_w);
  return launch_blocks<kBlockThreads, Tiles >= 6 ? 2 : 3>(stream, grid, bytes, TensorConv<Tiles>{args});
}

}  // namespace

int tensor_shared_bytes(const TensorShape& shape, int kernel_h, int kernel_w) {
  const int across = kTensorColumns + kernel_w - 1, down = kTensorRows + kernel_h - 1;
  const int pixels = across * down * (shape.slab | 1) * kChunkBytes;
  const int staged = kWarps * 16 * kChunk * (shape.tiles | 1) * static_cast<int>(sizeof(float));
  return larger(table_bytes(shape) + pixels, staged);
}

Status convolve_tensor(const ConvArgs& args, Stream stream) {
  switch (args.shape.tiles) {
    case 1: return launch<1>(args, stream);
    case 2: return launch<2>(args, stream);
    case 4: return launch<4>(args, stream);
    case 6: return launch<6>(args, stream);
    case 7: return launch<7>(args, stream);
    case 8: return launch<8>(args, stream);
    default: return {Code::internal, "internal error: no tensor convolution has so many tiles"};
  }
}

}  // namespace fastsr::cuda
