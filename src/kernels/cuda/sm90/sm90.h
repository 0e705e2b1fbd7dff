// SPDX-License-Identifier: Apache-2.0
// The kernels of `sonicmoe` for sm_90a. bf16 operands, f32 sums. Every pointer is on the device,
// every launch goes to the given stream of the current device, allocates nothing, never
// synchronises and can be captured in a CUDA graph. The same inputs give the same bits.
//
// Rows are the slots sorted by expert: R = offsets[E] of them, expert e has [offsets[e],
// offsets[e + 1]). What lies past R in a buffer is never written. Sizes are in elements.
//
// Private orders, which only these kernels read and write:
//   h   [R, P, I]: P = 2 when gated (gate, up), else 1; inside each aligned group of 32 columns
//       that is whole, element 8 q + 2 j + b holds column 8 j + 2 q + b (q, j < 4, b < 2)
//   dh  [R, P, I], gate before up
// but with Layout::kInOutAdjacent both are [R, I, 2] in natural order.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <string>

namespace moesmith::kernels::sm90 {

enum class ActivationKind : int { kSilu, kGelu, kGeluTanh, kRelu, kRelu2 };

// gated: act(min(g, gate_max)) * (clamp(u, -up_limit, up_limit) + up_shift). No limit: infinity.
struct Activation {
  ActivationKind kind = ActivationKind::kSilu;
  bool gated = true;
  float gate_max = __builtin_huge_valf(), up_limit = __builtin_huge_valf();
  float alpha = 1.0f;
  float up_shift = 0.0f;
};

// Rows of one expert as a kernel's blocks take them.
struct RowTile {
  std::int32_t expert, row, rows;
  std::int32_t chunk_in_expert;
};

// Which rows belong to whom. `tiles` and `chunks` are what build_tiles() writes.
struct Rows {
  std::int64_t num_experts = 0, num_tokens = 0, top_k = 0;
  std::int64_t max_rows = 0;                // room in the buffers, at least R; < 2^31
  const std::int32_t* offsets = nullptr;    // [E + 1]
  const std::int32_t* row_token = nullptr;  // [R]
  const float* row_weight = nullptr;        // [R]
  const std::int32_t* slot_row = nullptr;   // [T, K]; -1: the slot is not ours
  const void* tiles = nullptr;              // tile_bytes()
};

// One projection of all experts: element (row, col) of matrix `pair` of expert e is
// base[e * expert_stride + pair * pair_stride + row * row_stride + col].
// Gate and up: concatenated  row_stride = ld,     pair_stride = I * ld
//              interleaved   row_stride = 2 * ld, pair_stride = ld
// With a table, expert e's matrix begins at table[e] instead, and the pair's second one at
// pair_table[e] where that is given. `base` is then the lowest address and `span` the distance of
// the highest from it; both tables lie on the device.
struct Weights {
  const void* base = nullptr;
  std::int64_t row_stride = 0, pair_stride = 0, expert_stride = 0;
  const void* const* table = nullptr;
  const void* const* pair_table = nullptr;
  std::int64_t span = 0;
};

// How a projection's matrices lie. Of a pair, kOutIn and kInOut have strides or tables for both.
enum class Layout {
  kOutIn,          // [out, in], x W^T
  kInOut,          // [in, out], x W
  kInOutAdjacent,  // gate_up [in, I, 2], a gate beside its up: one matrix, no pair
};

// The rank-r term of a product: rows u [R, r16] times factor. r16 is a multiple of 16; 0: none.
struct LowRank {
  const void* u = nullptr;
  const void* factor = nullptr;  // see each launch
  std::int64_t rank = 0;
};

// --- tiles --------------------------------------------------------------------------------------
inline constexpr int kTileRows = 128;   // rows of a block of the products
inline constexpr int kChunkRows = 256;  // rows whose gradient sums are added before the next's
std::int64_t max_tiles(std::int64_t max_rows, std::int64_t num_experts);
std::int64_t max_chunks(std::int64_t max_rows, std::int64_t num_experts);
std::int64_t tile_bytes(std::int64_t max_rows, std::int64_t num_experts);
void build_tiles(const Rows& rows, void* tiles, cudaStream_t stream);

// --- capability, on the host --------------------------------------------------------------------
struct Shape {
  std::int64_t num_experts = 0, top_k = 0, hidden = 0, inter = 0, max_tokens = 0;
  bool gated = true;
};
// "" when these kernels can run the shape, else the one reason why not.
std::string refusal(const Shape& shape);
// As above for weights: 16-byte aligned base and strides, everything within 32 GiB of the base.
std::string refusal(const Weights& weights);

// --- products -----------------------------------------------------------------------------------
// How a product is cut into tiles. Zeros: choose_tile() decides.
struct TileChoice {
  int cols = 0;     // 192 or 256 columns
  int cluster = 0;  // 2: two blocks share the weights' tile, rows are taken 256 at a time
  int group = 0;    // row tiles walked before the next column tile
};
// A pure function of the sizes: rows to expect, columns and depth of the product.
TileChoice choose_tile(std::int64_t max_rows,
                       std::int64_t num_experts,
                       std::int64_t cols,
                       std::int64_t depth,
                       bool gathered);

// h = x[token] W1^T + u1 B1^T + b1, a = act(h). factor: B1 [E, P, I, r16], or for [in, out] weights
// [E, r16, P, I], adjacent [E, r16, I, 2].
struct UpArgs {
  Rows rows;
  std::int64_t hidden = 0, inter = 0;
  const void* x = nullptr;  // [T, H]
  Weights weights;          // [P, I, H]; [P, H, I]; [H, I, 2]
  Layout layout = Layout::kOutIn;
  const void* bias = nullptr;  // [E, P, I] strides below (adjacent: [E, I, 2]); null: none
  std::int64_t bias_stride = 1, bias_pair_stride = 0, bias_expert_stride = 0;
  LowRank low_rank;
  Activation activation;
  void* h = nullptr;  // [R, P, I] private order; null: not stored
  void* a = nullptr;  // [R, I]; null: not stored
  TileChoice tile;
};
void up_projection(const UpArgs& args, cudaStream_t stream);

// y = a W2^T + u2 B2^T + b2. factor: B2 [E, H, r16], or for [in, out] weights [E, r16, H].
struct DownArgs {
  Rows rows;
  std::int64_t hidden = 0, inter = 0;
  const void* a = nullptr;  // [R, I]
  Weights weights;          // [H, I]; transposed [I, H]
  bool transposed = false;
  const void* bias = nullptr;  // [E, H]
  LowRank low_rank;
  void* y = nullptr;  // [R, H]
  TileChoice tile;
};
void down_projection(const DownArgs& args, cudaStream_t stream);

// dA' = dy[token] W2 + v2 A2; from h: a, the parts of <dA', a>, dh = act'(h) (w dA').
// factor: A2 [E, r16, I], transposed [E, I, r16].
struct DActivationArgs {
  Rows rows;
  std::int64_t hidden = 0, inter = 0;
  const void* dy = nullptr;        // [T, H]
  Weights weights;                 // [H, I]; transposed [I, H]
  Layout layout = Layout::kOutIn;  // adjacent: of h and dh
  LowRank low_rank;
  Activation activation;
  const void* h = nullptr;     // [R, P, I]
  void* dh = nullptr;          // [R, P, I]; null: not stored
  void* a = nullptr;           // [R, I]; null: not stored
  bool weigh_a = false;        // stored: each row times its weight
  float* row_parts = nullptr;  // [R, parts], room for d_activation_parts(I); null: no <dA', a>
  TileChoice tile;
};
std::int64_t d_activation_parts(std::int64_t inter);
// Returns how many parts a row has: one for each column tile.
int d_activation(const DActivationArgs& args, cudaStream_t stream);

// dx = dh W1 + v1 A1, per row. factor: A1 [E, r16, H], for [in, out] weights [E, H, r16].
struct DHiddenArgs {
  Rows rows;
  std::int64_t hidden = 0, inter = 0;
  bool gated = true;
  const void* dh = nullptr;  // [R, P, I]
  Weights weights;           // as of UpArgs
  Layout layout = Layout::kOutIn;
  LowRank low_rank;
  void* dx = nullptr;  // [R, H]
  TileChoice tile;
};
void d_hidden(const DHiddenArgs& args, cudaStream_t stream);

// --- per token ----------------------------------------------------------------------------------
// out[t] = sum over k, in order, of weight * rows[slot_row[t, k]]; weights null: 1.
struct CombineArgs {
  Rows rows;
  std::int64_t hidden = 0;
  bool weighted = false;
  const void* in = nullptr;  // [R, H]
  void* out = nullptr;       // [T, H]; bf16, or f32 (added when accumulate)
  bool out_f32 = false, accumulate = false;
};
void combine(const CombineArgs& args, cudaStream_t stream);

// d_weights[t, k] = sum of the row's parts, in order; 0 for a slot that is not ours.
struct RouteWeightArgs {
  Rows rows;
  std::int64_t num_parts = 0;  // what d_activation() returned
  const float* row_parts = nullptr;
  const float* row_extra = nullptr;  // [R], added: <dy, b2>; null: none
  void* out = nullptr;               // [T, K]; bf16 or f32
  bool out_f32 = true, accumulate = false;
};
void route_weight_gradient(const RouteWeightArgs& args, cudaStream_t stream);

// --- rank-r products ----------------------------------------------------------------------------
// One pass over wide rows p [R, C] (p[token] when gathered):
//   narrow [R, r16] = scale * p q^T     when q is given: q [E, r16, C]
//   parts [chunk, r16, C] = n^T p       when n is given: n [R, r16], each row times row_weight
//                                       when `weighted`; one part for each chunk of kChunkRows
struct SkinnyArgs {
  Rows rows;
  std::int64_t cols = 0, rank = 0;
  bool gathered = false, weighted = false;
  const void* p = nullptr;
  const void* q = nullptr;
  float scale = 1.0f;
  void* narrow = nullptr;
  const void* n = nullptr;
  float* parts = nullptr;
};
std::int64_t skinny_part_elements(std::int64_t max_rows,
                                  std::int64_t num_experts,
                                  std::int64_t cols,
                                  std::int64_t rank);
void skinny(const SkinnyArgs& args, cudaStream_t stream);

// Adds the parts of each expert in order and stores them in PEFT's layout:
// A: [lora_rank * E, C], row e * lora_rank + j; B: [C, lora_rank * E], column j * E + e. An expert
// without rows gets zeros.
struct FactorGradientArgs {
  Rows rows;
  std::int64_t cols = 0, rank = 0, lora_rank = 0;  // rank: padded, as the parts have it
  const float* parts = nullptr;
  bool is_a = true;
  bool interleaved =
      false;            // B's row c < C/2 is row 2c of the parameter, the others 2 (c - C/2) + 1
  void* out = nullptr;  // f32 or bf16
  bool out_f32 = true, accumulate = false;
};
void factor_gradient(const FactorGradientArgs& args, cudaStream_t stream);

// PEFT's factor (f32 or bf16) to the packed bf16 forms: by_rank [E, r16, C] and by_col [E, C, r16];
// either may be null. Added rank rows are 0.
struct PackArgs {
  std::int64_t num_experts = 0, cols = 0, lora_rank = 0, rank = 0;
  const void* in = nullptr;
  bool in_f32 = true, is_a = true, interleaved = false;
  void* by_rank = nullptr;
  void* by_col = nullptr;
};
// At most four factors, in one launch.
void pack_factors(std::span<const PackArgs> factors, cudaStream_t stream);

}  // namespace moesmith::kernels::sm90
