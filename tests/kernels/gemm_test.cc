// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.h"

#include "gemm_fixture.h"
#include "kernels/gemm/packed_b.h"
#include "moesmith/error.h"

namespace moesmith::kernels::gemm {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

// Each pair of operand types in each pair of layouts.
template <class Body>
void for_each_layout(Case c, const Body& body) {
  for (const DType a : kTypes) {
    for (const DType b : kTypes) {
      for (int layout = 0; layout < 4; ++layout) {
        c.a_dtype = a, c.b_dtype = b;
        c.a_transposed = (layout & 1) != 0, c.b_transposed = (layout & 2) != 0;
        body(c);
      }
    }
  }
}

TEST(gemm, matches_reference_for_every_remainder_of_rows_and_columns) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (std::int64_t m = 1; m <= 13; ++m) {
      for (std::int64_t n = 1; n <= 70; ++n) {
        for_each_layout({m, n, 5}, [&](const Case& c) { expect_matches_reference(c, pool); });
      }
    }
  }
}

TEST(gemm, matches_reference_for_every_remainder_of_k) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (std::int64_t k = 0; k <= 100; ++k) {
      for (const std::int64_t m : {1, 3, 9}) {
        for_each_layout({m, 19, k}, [&](const Case& c) { expect_matches_reference(c, pool); });
      }
      for_each_layout({37, 5, k}, [&](const Case& c) { expect_matches_reference(c, pool); });
    }
  }
}

TEST(gemm, matches_reference_when_k_spans_several_chunks) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const std::int64_t k : {1023, 1025, 2047, 2048, 2049, 4100}) {
      for (const DType c_dtype : kTypes) {
        Case c{14, 9, k};
        c.c_dtype = c_dtype;
        for_each_layout(c, [&](const Case& each) { expect_matches_reference(each, pool); });
        c.m = 40, c.n = 20;  // B narrow, A perhaps transposed
        for_each_layout(c, [&](const Case& each) { expect_matches_reference(each, pool); });
      }
    }
  }
}

TEST(gemm, matches_reference_across_blocks_of_columns_and_rows) {
  ThreadPool pool(3);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for_each_layout({131, 263, 33}, [&](const Case& c) { expect_matches_reference(c, pool); });
    for_each_layout({5, 300, 70}, [&](const Case& c) { expect_matches_reference(c, pool); });
    for_each_layout({300, 6, 70}, [&](const Case& c) { expect_matches_reference(c, pool); });
    for_each_layout({700, 140, 3}, [&](const Case& c) { expect_matches_reference(c, pool); });
  }
}

TEST(gemm, scales_adds_and_accumulates_in_either_type) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const DType c_dtype : kTypes) {
      for (int options = 0; options < 8; ++options) {
        for (const std::int64_t k : {0, 7, 1030}) {
          for (const std::int64_t m : {4, 13}) {
            for (const std::int64_t n : {3, 17}) {
              Case c{m, n, k};
              c.c_dtype = c_dtype;
              c.alpha = (options & 1) != 0 ? -0.375f : 1.0f;
              c.accumulate = (options & 2) != 0;
              c.with_bias = (options & 4) != 0;
              for_each_layout(c, [&](const Case& each) { expect_matches_reference(each, pool); });
            }
          }
        }
      }
    }
  }
}

// The 2x rule: no further from the exact product than twice what plain loops in f32, rounded to
// bf16 at the end, are.
TEST(gemm, is_as_close_as_plain_loops_in_bf16) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    Case c{33, 70, 500};
    c.a_dtype = c.b_dtype = c.c_dtype = DType::kBF16;
    c.b_transposed = true;
    Problem problem(c);
    run(problem.args(problem.out), pool);
    double worst = 0, worst_plain = 0;
    for (std::int64_t i = 0; i < c.m; ++i) {
      for (std::int64_t j = 0; j < c.n; ++j) {
        double exact = 0;
        float plain = 0;
        for (std::int64_t l = 0; l < c.k; ++l) {
          exact += static_cast<double>(problem.a.at(i, l)) * problem.b.at(j, l);
          plain += problem.a.at(i, l) * problem.b.at(j, l);
        }
        worst = std::max(worst, std::abs(problem.out.at(i, j) - exact));
        worst_plain = std::max(worst_plain, std::abs(static_cast<float>(bf16(plain)) - exact));
      }
    }
    EXPECT_LE(worst, 2 * worst_plain) << isa_name(level);
    EXPECT_GT(worst_plain, 0);
  }
}

TEST(gemm, is_bitwise_the_same_for_any_number_of_threads) {
  ThreadPool one(1), three(3), seven(7);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const std::int64_t k : {70, 2100}) {
      for (const std::int64_t m : {7, 403}) {
        for_each_layout({m, 150, k}, [&](const Case& c) {
          Problem problem(c);
          Matrix first = problem.out, second = problem.out, third = problem.out;
          run(problem.args(first), one);
          run(problem.args(second), three);
          run(problem.args(third), seven);
          EXPECT_TRUE(first.bytes() == second.bytes()) << c.name();
          EXPECT_TRUE(first.bytes() == third.bytes()) << c.name();
        });
      }
    }
  }
}

TEST(gemm, packed_b_gives_bitwise_what_b_gives) {
  ThreadPool pool(2);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const std::int64_t n : {1, 16, 81, 200}) {
      for (const std::int64_t k : {1, 33, 2050}) {
        for_each_layout({41, n, k}, [&](const Case& c) {
          if (c.a_transposed && n <= 32) return;  // run() swaps the operands: other sums
          if (!c.a_transposed && c.b_transposed && n <= 8) return;  // run() takes inner products
          Problem problem(c);
          Matrix plain = problem.out, packed = problem.out;
          Args args = problem.args(plain);
          run(args, pool);
          const PackedB b(args.b, c.k, c.n, c.a_dtype, pool);
          EXPECT_GE(b.bytes(), c.k * c.n * 2);
          args.b = {};
          args.packed_b = &b;
          args.c = packed.data();
          run(args, pool);
          EXPECT_TRUE(plain.bytes() == packed.bytes()) << c.name();
        });
      }
    }
  }
}

// Rows and columns from the middle of a packed B, in memory of the caller's.
TEST(gemm, a_part_of_packed_b_gives_bitwise_what_that_part_gives) {
  ThreadPool pool(2);
  struct Part {
    std::int64_t row, col, k, n;
  };
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Problem problem({13, 128, 128, dtype, dtype});
      const Args whole = problem.args(problem.out);
      std::vector<char> storage(
          static_cast<std::size_t>(PackedB::storage_bytes(128, 128, dtype, dtype)));
      const PackedB b(whole.b, 128, 128, dtype, pool, storage.data());
      for (const Part& part : {Part{0, 0, 128, 128}, Part{0, 64, 128, 64}, Part{64, 0, 64, 128},
                               Part{0, 0, 64, 64}, Part{64, 64, 64, 64}, Part{2, 0, 30, 128}}) {
        SCOPED_TRACE(str(part.row, " ", part.col, " ", part.k, " ", part.n));
        ASSERT_TRUE(b.has_part(part.row, part.col, part.k, part.n));
        Args args = whole;
        args.n = part.n;
        args.k = part.k;
        args.b.data = static_cast<char*>(problem.b.data()) +
                      (part.row * args.b.row_stride + part.col) * dtype_size(dtype);
        Matrix plain(13, part.n, 1, DType::kF32), packed(13, part.n, 1, DType::kF32);
        args.ldc = plain.stride();
        args.c = plain.data();
        run(args, pool);
        args.b = {};
        args.packed_b = &b;
        args.packed_row = part.row;
        args.packed_col = part.col;
        args.c = packed.data();
        run(args, pool);
        EXPECT_TRUE(plain.bytes() == packed.bytes()) << problem.c.name();
      }
      EXPECT_FALSE(b.has_part(64, 0, 65, 128));  // beyond its end
      EXPECT_FALSE(b.has_part(0, 1, 128, 64));   // within a panel
      EXPECT_FALSE(b.has_part(64, 0, 64, 127));  // rows of a panel that is cut
      EXPECT_EQ(b.has_part(1, 0, 64, 128), b.tile_with(dtype).k_unit() == 1);  // within a word
    }
  }
}

TEST(gemm, leaves_c_alone_when_there_is_nothing_to_do) {
  ThreadPool pool(1);
  Matrix out(2, 2, 0, DType::kF32);
  Args args;
  args.c = out.data();
  args.ldc = 2;
  run(args, pool);
  args.m = 2;
  run(args, pool);
  EXPECT_TRUE(std::isnan(out.at(0, 0)));
}

TEST(gemm, refuses_malformed_arguments) {
  ThreadPool pool(1);
  Problem problem({3, 4, 5});
  const auto expect_refusal = [&](const auto& change) {
    Args args = problem.args(problem.out);
    change(args);
    EXPECT_THROW(run(args, pool), Error);
  };
  expect_refusal([](Args& a) { a.m = -1; });
  expect_refusal([](Args& a) { a.ldc = 3; });
  expect_refusal([](Args& a) { a.c = nullptr; });
  expect_refusal([](Args& a) { a.c_dtype = DType::kI32; });
  expect_refusal([](Args& a) { a.a.dtype = DType::kF64; });
  expect_refusal([](Args& a) { a.b.data = nullptr; });
  expect_refusal([](Args& a) { a.a.row_stride = a.a.col_stride = 2; });
}

TEST(gemm, keeps_nan_and_infinity) {
  ThreadPool pool(1);
  for (const IsaLevel level : isa_levels()) {
    const IsaScope scope(level);
    for (const DType dtype : kTypes) {
      Case c{7, 20, 9};
      c.a_dtype = c.b_dtype = c.c_dtype = dtype;
      Problem problem(c);
      const auto poke = [&](std::int64_t i, float value) {
        char* at =
            static_cast<char*>(problem.a.data()) + i * problem.a.stride() * dtype_size(dtype);
        const bf16 narrow(value);
        std::memcpy(at, dtype == DType::kF32 ? static_cast<const void*>(&value) : &narrow,
                    static_cast<std::size_t>(dtype_size(dtype)));
      };
      poke(2, std::numeric_limits<float>::quiet_NaN());
      poke(4, std::numeric_limits<float>::infinity());
      run(problem.args(problem.out), pool);
      for (std::int64_t j = 0; j < c.n; ++j) {
        EXPECT_TRUE(std::isnan(problem.out.at(2, j))) << c.name();
        EXPECT_TRUE(std::isinf(problem.out.at(4, j))) << c.name();
        EXPECT_TRUE(std::isfinite(problem.out.at(3, j))) << c.name();
      }
    }
  }
}

}  // namespace
}  // namespace moesmith::kernels::gemm
