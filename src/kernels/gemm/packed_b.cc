// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/packed_b.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/checked.h"
#include "core/text.h"
#include "kernels/gemm/product.h"
#include "moesmith/error.h"

namespace moesmith::kernels::gemm {

void PackedB::Free::operator()(void* p) const { std::free(p); }

namespace {

// Only for its cuts along k.
Product cuts(std::int64_t k, const cpu::Tile& tile) {
  Product p;
  p.args.k = k;
  p.tile = &tile;
  return p;
}

}  // namespace

std::int64_t PackedB::storage_bytes(std::int64_t k, std::int64_t n, DType a_dtype, DType b_dtype) {
  if (k < 0 || n < 0) throw Error(ErrorCode::kInternal, "gemm: packing a negative size");
  const cpu::Tile& tile = cpu::tile_for(active_isa(), a_dtype, b_dtype);
  return checked_mul(checked_mul(cuts(k, tile).num_words(), round_up(n, tile.lanes)), 4);
}

PackedB::PackedB(const Operand& b, std::int64_t k, std::int64_t n, DType a_dtype, ThreadPool& pool)
    : PackedB(b, k, n, a_dtype, pool, [&] {
        const std::int64_t bytes = std::max<std::int64_t>(storage_bytes(k, n, a_dtype, b.dtype), 1);
        void* storage = std::aligned_alloc(4096, static_cast<std::size_t>(round_up(bytes, 4096)));
        if (storage == nullptr) throw std::bad_alloc();
        return storage;
      }()) {
  owned_.reset(panels_);
}

PackedB::PackedB(const Operand& b,
                 std::int64_t k,
                 std::int64_t n,
                 DType a_dtype,
                 ThreadPool& pool,
                 void* storage)
    : k_(k),
      n_(n),
      bytes_(storage_bytes(k, n, a_dtype, b.dtype)),
      tile_(&cpu::tile_for(active_isa(), a_dtype, b.dtype)),
      panels_(static_cast<char*>(storage)) {
  padded_n_ = round_up(n, tile_->lanes);
  const Product p = cuts(k, *tile_);
  const std::int64_t num_panels = ceil_div(n, tile_->width());
  pool.run(num_panels * p.num_chunks(), [&](std::int64_t task, int) {
    const std::int64_t c = task / num_panels, n0 = task % num_panels * tile_->width();
    const std::int64_t begin = p.chunk_begin(c), end = p.chunk_begin(c + 1);
    const std::int64_t width = std::min<std::int64_t>(tile_->width(), padded_n_ - n0);
    const std::int64_t k0 = begin * tile_->k_unit();
    tile_->pack({element(b, k0, n0), b.dtype == DType::kBF16, b.col_stride, b.row_stride,
                 std::min(width, n - n0), std::min(end * tile_->k_unit(), k) - k0, width,
                 const_cast<void*>(panel(begin, end, n0).data)});
  });
}

const cpu::Tile& PackedB::tile_with(DType a_dtype) const {
  if (tile_->operand == DType::kBF16 && a_dtype != DType::kBF16) {
    throw Error(ErrorCode::kInternal,
                str("gemm: B was packed for bf16, got A in ", dtype_name(a_dtype)));
  }
  return *tile_;
}

bool PackedB::has_part(std::int64_t row, std::int64_t col, std::int64_t k, std::int64_t n) const {
  if (row < 0 || col < 0 || row + k > k_ || col + n > n_) return false;
  if (k == k_ && n == n_) return true;
  const std::int64_t width = tile_->width(), unit = tile_->k_unit();
  const auto cuts_at = [](std::int64_t at, std::int64_t step, std::int64_t end) {
    return at % step == 0 || at == end;
  };
  return cuts(k_, *tile_).num_chunks() == 1 && row % unit == 0 && col % width == 0 &&
         cuts_at(row + k, unit, k_) && cuts_at(col + n, width, n_) && (row == 0 || n % width == 0);
}

PackedB::Panel PackedB::panel(std::int64_t word_begin,
                              std::int64_t word_end,
                              std::int64_t n0) const {
  const Product p = cuts(k_, *tile_);
  if (p.num_chunks() > 1) {
    const std::int64_t words = word_end - word_begin;
    return {panels_ + (word_begin * padded_n_ + words * n0) * 4, words};
  }
  const std::int64_t width = std::min<std::int64_t>(tile_->width(), padded_n_ - n0);
  return {panels_ + (p.num_words() * n0 + word_begin * width) * 4, p.num_words()};
}

}  // namespace moesmith::kernels::gemm
