// SPDX-License-Identifier: Apache-2.0
// The register tile that every dense product of the CPU is made of, as a table of functions per
// instruction set: out[rows, vecs * lanes] (+)= A[rows, k] B[k, vecs * lanes] with f32 sums. Which
// blocks to run, and where, is up to the callers (kernels/gemm, experts/scattermoe).
//
// k runs in steps of one 32-bit word: one f32 (k_unit 1) or two neighbouring bf16 (k_unit 2).
// For each element of `out` the words are summed in order of k by one lane, whatever the number of
// rows and columns of the call: results do not depend on how a caller cuts m and n into tiles.
#pragma once

#include <cstdint>

#include "core/cpu_features.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::cpu {

constexpr int kTileRows = 6;     // of the largest register tile; with 4 x 16 lanes 24 sums, 5 loads
constexpr int kMaxTileVecs = 4;  // columns of the largest tile, in vectors

// `count` lines to bring into L2 while a tile is multiplied, one every `every` steps: runs of `run`
// lines `step` bytes apart, then `jump` bytes on to the next run; `left` of the present run are to
// come. Products thus hide the memory latency of what is packed after them. An even pace matters:
// a core that asks for a line at each step is held up by its own requests.
struct Ahead {
  const char* line = nullptr;
  std::int64_t count = 0, every = 1;
  std::int64_t left = 0, run = 0;
  std::int64_t step = 0, jump = 0;
};

struct TileCall {
  const void* rows[kTileRows];  // first word of each row of A; only `num_rows` of them are read
  std::int64_t k_step;          // bytes from one word of a row to the next; 4 for a plain row
  std::int64_t num_steps;       // words along k
  const void* b;                // packed panel [num_steps, vecs * lanes] words
  float* out;                   // [num_rows, vecs * lanes], row stride ld floats
  std::int64_t ld;
  bool add;  // add to out instead of overwriting it
  Ahead ahead = {};
  // Words of a second A that go on where the first ends, and their panel; nullptr: b goes on too.
  const void* more_rows[kTileRows] = {};
  std::int64_t more_steps = 0;
  const void* more_b = nullptr;
};

// Words of a strided matrix [num_outer, num_k] laid out k-major: dst [ceil(num_k / k_unit), width],
// zeros where outer >= num_outer or k >= num_k. outer is n for B panels and m for A panels.
struct PackCall {
  const void* src;
  bool src_is_bf16;           // else f32. A tile with k_unit 2 takes only bf16
  std::int64_t outer_stride;  // elements; this or k_stride is 1
  std::int64_t k_stride;
  std::int64_t num_outer, num_k;
  std::int64_t width;  // words per step of dst; a multiple of lanes, or kTileRows
  void* dst;
  std::int64_t dst_width = 0;  // words from one step of dst to the next; 0: width
  // When given, dst is made of panels of dst_width words per step, and column c lies in panel
  // c / dst_width; bytes from one panel to the next.
  std::int64_t panel_stride = 0;
  // When given, row k begins `src_offset` elements after k_rows[k], and src and k_stride are not
  // looked at: rows are gathered while they are packed. outer_stride is 1.
  const void* const* k_rows = nullptr;
  std::int64_t src_offset = 0;
};

// c = alpha * sums + bias (+ c)
struct FinishCall {
  const float* sums;  // [num_rows, num_cols], row stride ld
  std::int64_t ld;
  std::int64_t num_rows, num_cols;
  void* c;  // row stride ldc elements
  std::int64_t ldc;
  bool c_is_bf16;
  float alpha;
  bool accumulate;
  const float* bias;  // [num_cols] or nullptr
};

// out[i, j] = <a_i, b_j>: rows of both operands contiguous along k, nothing packed.
struct DotCall {
  const void* a;  // [num_rows, k], row stride a_stride elements
  const void* b;  // [num_cols, k], row stride b_stride elements
  std::int64_t a_stride, b_stride;
  bool a_is_bf16, b_is_bf16;  // a tile with k_unit 2 takes only bf16
  std::int64_t num_rows, num_cols, k;
  float* out;  // row stride ld
  std::int64_t ld;
};

struct Tile {
  IsaLevel level;
  DType operand;  // what the words hold: kF32 (k_unit 1) or kBF16 (k_unit 2)
  int lanes;
  int max_vecs;
  void (*multiply)(int num_rows, int vecs, const TileCall& call);
  void (*pack)(const PackCall& call);
  void (*widen)(const void* bf16_src, float* dst, std::int64_t count);
  void (*finish)(const FinishCall& call);
  void (*dot)(const DotCall& call);

  int k_unit() const { return operand == DType::kBF16 ? 2 : 1; }
  int width() const { return lanes * max_vecs; }
};

// The tile of `level` for the product of these operands: bf16 words where both are bf16 and the
// level multiplies them, else f32 words.
const Tile& tile_for(IsaLevel level, DType a, DType b);

namespace portable {
const Tile& f32_tile();
}
namespace avx2 {
const Tile& f32_tile();
}
namespace avx512 {
const Tile& f32_tile();
}
namespace avx512_bf16 {
const Tile& bf16_tile();
}

}  // namespace moesmith::kernels::cpu
