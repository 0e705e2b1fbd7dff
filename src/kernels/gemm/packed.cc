// SPDX-License-Identifier: Apache-2.0
// Blocks of C by register tiles. B is packed block by block by the task that uses it; A is read
// where it lies when its rows are contiguous words, else packed once for all tasks.
#include <cstring>

#include "kernels/gemm/packed_b.h"
#include "kernels/gemm/product.h"
#include "kernels/gemm/scratch.h"

namespace moesmith::kernels::gemm {
namespace {

// Columns of a block: 128, more where k is short, so that A is read less often.
constexpr std::int64_t kBlockColumns = 128, kMaxBlockColumns = 512;
constexpr std::int64_t kMaxBlockTiles = 340;  // 2040 rows between two packings of B
constexpr std::int64_t kMaxSummedTiles = 85;  // 510 x 128 sums are 255 KiB of L2
constexpr std::int64_t kMinBlockTiles = 16;   // below 96 rows packing B costs over 5 %
constexpr std::int64_t kMaxPackedABytes = 32 << 20;

std::int64_t block_columns(const Product& p) {
  const std::int64_t words = std::max<std::int64_t>(p.num_words(), 1);
  return std::clamp(kBlockColumns * kChunkWords / words / kBlockColumns * kBlockColumns,
                    kBlockColumns, kMaxBlockColumns);
}

// Rows [row_begin(first_tile), ...) of A as the tile reads them.
struct PackedRows {
  char* data = nullptr;  // nullptr: A is read in place
  bool along_k = false;  // row by row; else panels of kTileRows words per step
  std::int64_t first_tile = 0;
};

bool reads_in_place(const Product& p) {
  return p.args.a.col_stride == 1 && p.args.a.dtype == p.tile->operand &&
         p.args.k % p.tile->k_unit() == 0;
}

void pack_row_tile(const Product& p, const PackedRows& packed, std::int64_t t) {
  const Args& args = p.args;
  const std::int64_t begin = p.row_begin(t), count = p.row_begin(t + 1) - begin;
  const std::int64_t unit = p.tile->k_unit(), words = p.num_words();
  char* dst = packed.data + (t - packed.first_tile) * cpu::kTileRows * words * 4;
  if (packed.along_k) {
    for (std::int64_t i = 0; i < count; ++i, dst += words * 4) {
      const char* src = element(args.a, begin + i, 0);
      if (args.a.dtype == p.tile->operand) {
        const std::int64_t bytes = args.k * 4 / unit;
        std::memcpy(dst, src, static_cast<std::size_t>(bytes));
        std::memset(dst + bytes, 0, static_cast<std::size_t>(words * 4 - bytes));
      } else {
        p.tile->widen(src, reinterpret_cast<float*>(dst), args.k);
      }
    }
    return;
  }
  p.tile->pack({element(args.a, begin, 0), args.a.dtype == DType::kBF16, args.a.row_stride,
                args.a.col_stride, count, args.k, cpu::kTileRows, dst});
}

void set_rows(const Product& p,
              const PackedRows& packed,
              std::int64_t t,
              std::int64_t word,
              cpu::TileCall* call) {
  const std::int64_t begin = p.row_begin(t), count = p.row_begin(t + 1) - begin;
  if (packed.data == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) {
      call->rows[i] = element(p.args.a, begin + i, word * p.tile->k_unit());
    }
    call->k_step = 4;
    return;
  }
  const std::int64_t words = p.num_words();
  const char* tile = packed.data + (t - packed.first_tile) * cpu::kTileRows * words * 4;
  for (std::int64_t i = 0; i < count; ++i) {
    call->rows[i] =
        packed.along_k ? tile + (i * words + word) * 4 : tile + (word * cpu::kTileRows + i) * 4;
  }
  call->k_step = packed.along_k ? 4 : cpu::kTileRows * 4;
}

// Columns [n0, n0 + num_cols) of the rows of tiles [t0, t1).
struct Block {
  std::int64_t t0, t1, n0, num_cols;
};

// The panels of a block for one chunk of k: that of the columns from n0 + j on lies j * panel_words
// words further.
struct Panels {
  const char* data;
  std::int64_t panel_words;
};
Panels pack_block(const Product& p,
                  const Block& block,
                  std::int64_t word_begin,
                  std::int64_t word_end) {
  const Args& args = p.args;
  if (args.packed_b != nullptr) {
    const std::int64_t row = args.packed_row / p.tile->k_unit();
    const PackedB::Panel first =
        args.packed_b->panel(word_begin + row, word_end + row, args.packed_col + block.n0);
    return {static_cast<const char*>(first.data), first.panel_words};
  }
  const std::int64_t width = p.tile->width(), words = word_end - word_begin;
  const std::int64_t padded = round_up(block.num_cols, p.tile->lanes);
  char* dst = scratch().b.reserve_as<char>(kBlockColumns * kChunkWords * 4);
  const std::int64_t k0 = word_begin * p.tile->k_unit();
  const std::int64_t num_k = std::min(word_end * p.tile->k_unit(), args.k) - k0;
  for (std::int64_t j = 0; j < padded; j += width) {
    const std::int64_t panel = std::min<std::int64_t>(width, padded - j);
    p.tile->pack({element(args.b, k0, block.n0 + j), args.b.dtype == DType::kBF16,
                  args.b.col_stride, args.b.row_stride, std::min(panel, block.num_cols - j), num_k,
                  panel, dst + j * words * 4});
  }
  return {dst, words};
}

// The sums go straight to C, chunk after chunk: no second pass over it, no buffer between.
void run_block_in_c(const Product& p, const PackedRows& packed, const Block& block) {
  const std::int64_t width = p.tile->width();
  for (std::int64_t c = 0; c < p.num_chunks(); ++c) {
    const std::int64_t begin = p.chunk_begin(c), words = p.chunk_begin(c + 1) - begin;
    const Panels b = pack_block(p, block, begin, begin + words);
    cpu::TileCall call;
    call.num_steps = words;
    call.ld = p.args.ldc;
    call.add = p.args.accumulate || c > 0;
    for (std::int64_t t = block.t0; t < block.t1; ++t) {
      const std::int64_t row = p.row_begin(t), num_rows = p.row_begin(t + 1) - row;
      set_rows(p, packed, t, begin, &call);
      for (std::int64_t j = 0; j < block.num_cols; j += width) {
        const std::int64_t panel = std::min<std::int64_t>(width, block.num_cols - j);
        call.b = b.data + j * b.panel_words * 4;
        call.out = static_cast<float*>(p.args.c) + row * p.args.ldc + block.n0 + j;
        // The tile touches C only at its end; its lines come while it multiplies.
        for (std::int64_t i = 0; i < num_rows; ++i) {
          for (std::int64_t at = 0; at < panel; at += 16) {
            __builtin_prefetch(call.out + i * call.ld + at, 1);
          }
        }
        p.tile->multiply(static_cast<int>(num_rows), static_cast<int>(panel / p.tile->lanes), call);
      }
    }
  }
}

void run_block(const Product& p, const PackedRows& packed, const Block& block) {
  if (p.stores_sums() && block.num_cols % p.tile->lanes == 0) {
    return run_block_in_c(p, packed, block);
  }
  const std::int64_t width = p.tile->width(), num_chunks = p.num_chunks();
  const std::int64_t padded = round_up(block.num_cols, p.tile->lanes);
  const std::int64_t row0 = p.row_begin(block.t0);
  alignas(64) float tile_sums[cpu::kTileRows * kMaxBlockColumns];
  const std::int64_t ld = num_chunks == 1 ? kMaxBlockColumns : kBlockColumns;
  float* block_sums =
      num_chunks == 1
          ? nullptr
          : scratch().sums.reserve_as<float>(kMaxSummedTiles * cpu::kTileRows * kBlockColumns);
  for (std::int64_t c = 0; c < num_chunks; ++c) {
    const std::int64_t begin = p.chunk_begin(c), words = p.chunk_begin(c + 1) - begin;
    const Panels b = pack_block(p, block, begin, begin + words);
    cpu::TileCall call;
    call.num_steps = words;
    call.ld = ld;
    call.add = c > 0;
    for (std::int64_t t = block.t0; t < block.t1; ++t) {
      const std::int64_t row = p.row_begin(t), num_rows = p.row_begin(t + 1) - row;
      float* sums = num_chunks == 1 ? tile_sums : block_sums + (row - row0) * ld;
      set_rows(p, packed, t, begin, &call);
      for (std::int64_t j = 0; j < padded; j += width) {
        const std::int64_t panel = std::min<std::int64_t>(width, padded - j);
        call.b = b.data + j * b.panel_words * 4;
        call.out = sums + j;
        p.tile->multiply(static_cast<int>(num_rows), static_cast<int>(panel / p.tile->lanes), call);
      }
      if (c + 1 == num_chunks) {
        finish(p, row, num_rows, block.n0, block.num_cols, sums, ld);
      }
    }
  }
}

}  // namespace

void run_packed(const Product& p, ThreadPool& pool) {
  const std::int64_t num_tiles = p.num_row_tiles();
  const std::int64_t columns = block_columns(p);
  const std::int64_t num_col_blocks = ceil_div(p.args.n, columns);
  // Enough tasks for an even load; how m and n are cut does not change a bit of the result.
  const std::int64_t wanted = ceil_div(4 * pool.num_threads(), num_col_blocks);
  const std::int64_t block_tiles =
      std::clamp(ceil_div(num_tiles, wanted), kMinBlockTiles,
                 p.num_chunks() == 1 ? kMaxBlockTiles : kMaxSummedTiles);
  const bool in_place = reads_in_place(p);
  const std::int64_t tile_bytes = std::max<std::int64_t>(p.num_words(), 1) * cpu::kTileRows * 4;
  const std::int64_t max_packed = std::max(block_tiles, kMaxPackedABytes / tile_bytes);
  const std::int64_t tiles_at_once = in_place ? num_tiles : std::min(num_tiles, max_packed);
  for (std::int64_t first = 0; first < num_tiles; first += tiles_at_once) {
    const std::int64_t last = std::min(num_tiles, first + tiles_at_once);
    PackedRows packed;
    if (!in_place) {
      packed = {scratch().a.reserve_as<char>(tiles_at_once * tile_bytes), p.args.a.col_stride == 1,
                first};
      run_tasks(p, pool, ceil_div(last - first, kMinBlockTiles), [&](std::int64_t task) {
        const std::int64_t begin = first + task * kMinBlockTiles;
        for (std::int64_t t = begin; t < std::min(last, begin + kMinBlockTiles); ++t) {
          pack_row_tile(p, packed, t);
        }
      });
    }
    const std::int64_t num_row_blocks = ceil_div(last - first, block_tiles);
    run_tasks(p, pool, num_row_blocks * num_col_blocks, [&](std::int64_t task) {
      const std::int64_t t0 = first + task % num_row_blocks * block_tiles;
      const std::int64_t n0 = task / num_row_blocks * columns;
      run_block(p, packed,
                {t0, std::min(last, t0 + block_tiles), n0, std::min(columns, p.args.n - n0)});
    });
  }
}

}  // namespace moesmith::kernels::gemm
