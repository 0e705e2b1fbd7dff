// SPDX-License-Identifier: Apache-2.0
// u1 = s1 x A1^T; by expert and columns of I h = x W1^T + u1 B1^T + b1 and a = act(h);
// u2 = s2 a A2^T; by columns of H y = sum of w (a W2^T + u2 B2^T + b2) over a token's slots, in
// their order.
#include "experts/activation/activation.h"
#include "experts/batched_mm/passes.h"

namespace moesmith::experts::batched_mm {
namespace {

constexpr std::int64_t kPackRows = 32;
constexpr std::int64_t kPackHits = 16, kPackRank = 16;  // of a block on the stack

// Rows [begin, end) of B [out, r E] to all hits: in the order in which their lines lie, which a
// prefetcher follows.
template <class T, class From>
void pack_b_rows(const Pass<T>& pass,
                 const PackedB<T>& b,
                 const From* from,
                 std::int64_t begin,
                 std::int64_t end) {
  const std::int64_t num_experts = pass.request.num_experts, rank = b.lora_rank;
  const std::int64_t num_hits = pass.work.num_hits;
  float block[kPackHits][kPackRank];
  for (std::int64_t o = begin; o < end; ++o) {
    const From* row = from + o * rank * num_experts;
    for (std::int64_t j0 = 0; j0 < rank; j0 += kPackRank) {
      const std::int64_t n = std::min(kPackRank, rank - j0);
      for (std::int64_t first = 0; first < num_hits; first += kPackHits) {
        const std::int64_t count = std::min(kPackHits, num_hits - first);
        const Hit* hits = pass.work.hits + first;
        for (std::int64_t j = 0; j < n; ++j) {
          const From* at = row + (j0 + j) * num_experts;
          for (std::int64_t i = 0; i < count; ++i) {
            block[i][j] = static_cast<float>(at[hits[i].expert]);
          }
        }
        for (std::int64_t i = 0; i < count; ++i) {
          kernels::rows::ops<T>().from_f32(b.data + ((first + i) * b.out + o) * rank + j0, block[i],
                                           1.0f, n);
        }
      }
    }
  }
}

// u [rows of a hit, r] = scale * rows A^T, rounded; `saved` [rows, saved_rank] may be null.
template <class T>
void project(const Pass<T>& pass,
             const LoraSpec& lora,
             const LoraFactors& factors,
             const Rows& from,
             std::int64_t in,
             const Rounded<T>& u,
             T* saved,
             const Hit& hit) {
  const std::int64_t rank = lora.lora_rank, saved_rank = padded_lora_rank(lora);
  const kernels::gemm::Operand a = pass.a_operand(lora, factors, hit.expert, in, true);
  for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
    multiply(from, begin, end, in, a, rank, u.wide + begin * rank, rank, false);
    u.round(lora.lora_scale, begin * rank, (end - begin) * rank);
    for (std::int64_t r = begin; r < end && saved != nullptr; ++r) {
      std::copy_n(u.narrow + r * rank, rank, saved + r * saved_rank);
    }
  });
}

// Columns [first, first + count) of h that go to the columns `at` of a block.
struct HColumns {
  std::int64_t first, count, at;
};

template <class T>
struct PreActivation {
  const Pass<T>& pass;
  T* h;
  const Rounded<T>& a;

  // The gate and up columns of [i0, i0 + n): one range or two.
  int columns_of(std::int64_t i0, std::int64_t n, HColumns (&columns)[2]) const {
    const ExpertsRequest& request = pass.request;
    if (!request.activation.gated) {
      columns[0] = {i0, n, 0};
      return 1;
    }
    if (request.gate_up_layout == GateUpLayout::kInterleaved) {
      columns[0] = {2 * i0, 2 * n, 0};
      return 1;
    }
    columns[0] = {i0, n, 0};
    columns[1] = {request.inter + i0, n, n};
    return 2;
  }

  void run(std::int64_t hit_number, std::int64_t i0, std::int64_t n, int worker) const {
    const ExpertsRequest& request = pass.request;
    const Hit& hit = pass.work.hits[hit_number];
    const WorkerScratch scratch = pass.worker(worker);
    HColumns columns[2];
    const int count = columns_of(i0, n, columns);
    const WeightParts parts = gate_up_parts(request, pass.inputs.weights, hit.expert);
    const Rows x = pass.x_rows();
    const Rows u = pass.by_row(pass.work.u_1, pass.work.b_1.lora_rank);
    constexpr std::int64_t kLd = 2 * kMaxColumns;
    for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
      for (int c = 0; c < count; ++c) {
        const HColumns& at = columns[c];
        const WeightPart& part = parts.part[parts.count == 2 ? c : 0];
        multiply(x, begin, end, request.hidden,
                 from_column(forward_operand(part, request.weight_dtype), at.first - part.first),
                 at.count, scratch.block + at.at, kLd, false);
        if (pass.work.b_1.lora_rank > 0) {
          multiply(u, begin, end, pass.work.b_1.lora_rank,
                   from_column(pass.b_operand(pass.work.b_1, hit_number, true), at.first), at.count,
                   scratch.block + at.at, kLd, true);
        }
        if (request.gate_up_bias) add_bias(hit, at, begin, end, scratch);
      }
      for (std::int64_t r = begin; r < end; ++r) {
        finish(r, columns, count, i0, n, scratch.block + (r - begin) * kLd);
      }
    });
  }

  void add_bias(const Hit& hit,
                const HColumns& at,
                std::int64_t begin,
                std::int64_t end,
                const WorkerScratch& scratch) const {
    const ExpertsRequest& request = pass.request;
    const std::int64_t first = hit.expert * request.gate_up_width() + at.first;
    widen(advance(pass.inputs.weights.gate_up_bias, request.weight_dtype, first),
          request.weight_dtype, at.count, scratch.bias);
    for (std::int64_t r = 0; r < end - begin; ++r) {
      kernels::rows::ops<float>().axpy(scratch.block + r * 2 * kMaxColumns + at.at, scratch.bias,
                                       1.0f, at.count);
    }
  }

  // Rounds the sums of a row to h and applies the activation to what was rounded.
  void finish(std::int64_t row,
              const HColumns (&columns)[2],
              int count,
              std::int64_t i0,
              std::int64_t n,
              const float* sums) const {
    const ExpertsRequest& request = pass.request;
    T block[2 * kMaxColumns];
    T* h_row = h == nullptr ? nullptr : h + row * request.gate_up_width();
    for (int c = 0; c < count; ++c) {
      T* to = h_row == nullptr ? block + columns[c].at : h_row + columns[c].first;
      kernels::rows::ops<T>().from_f32(to, sums + columns[c].at, 1.0f, columns[c].count);
    }
    if (a.narrow == nullptr) return;
    GateUp<const T> gate_up;
    if (h_row != nullptr) {
      gate_up = gate_up_of_row<const T>(request, h_row, i0);
    } else if (count == 1) {
      gate_up = {block, block + 1, request.activation.gated ? 2 : 1};
    } else {
      gate_up = {block, block + n, 1};
    }
    const std::int64_t first = row * request.inter + i0;
    activation_ops<T>().forward(request.activation, gate_up, a.narrow + first, n);
    a.widen(first, n);
  }
};

template <class T>
struct Down {
  const Pass<T>& pass;
  T* output;

  void run(std::int64_t c0, std::int64_t n, int worker) const {
    const ExpertsRequest& request = pass.request;
    const WorkerScratch scratch = pass.worker(worker);
    for (std::int64_t hit = 0; hit < pass.work.num_hits; ++hit) {
      if (hit + 1 < pass.work.num_hits) prefetch_head(weights(hit + 1, c0));
      products(hit, c0, n, scratch);
    }
    for (std::int64_t t = 0; t < pass.inputs.num_tokens; ++t) {
      std::fill_n(scratch.sum, n, 0.0f);
      for (std::int64_t slot = t * request.top_k; slot < (t + 1) * request.top_k; ++slot) {
        const std::int64_t row = pass.work.index.row_of[slot];
        if (row < 0) continue;
        kernels::rows::ops<float>().axpy(scratch.sum, scratch.stripe + row * kMaxColumns,
                                         pass.weight_of(row), n);
      }
      kernels::rows::ops<T>().from_f32(output + t * request.hidden + c0, scratch.sum, 1.0f, n);
    }
  }

  kernels::gemm::Operand weights(std::int64_t hit, std::int64_t c0) const {
    const ExpertsRequest& request = pass.request;
    const WeightPart part = down_part(request, pass.inputs.weights, pass.work.hits[hit].expert);
    return from_column(forward_operand(part, request.weight_dtype), c0);
  }

  void products(std::int64_t hit_number,
                std::int64_t c0,
                std::int64_t n,
                const WorkerScratch& scratch) const {
    const ExpertsRequest& request = pass.request;
    const Hit& hit = pass.work.hits[hit_number];
    const std::int64_t rank = pass.work.b_2.lora_rank;
    if (request.down_bias) {
      widen(advance(pass.inputs.weights.down_bias, request.weight_dtype,
                    hit.expert * request.hidden + c0),
            request.weight_dtype, n, scratch.bias);
    }
    for_groups(hit.begin, hit.end, [&](std::int64_t begin, std::int64_t end) {
      float* to = scratch.stripe + begin * kMaxColumns;
      multiply(pass.by_row(pass.work.a, request.inter), begin, end, request.inter,
               weights(hit_number, c0), n, to, kMaxColumns, false);
      if (rank > 0) {
        multiply(pass.by_row(pass.work.u_2, rank), begin, end, rank,
                 from_column(pass.b_operand(pass.work.b_2, hit_number, true), c0), n, to,
                 kMaxColumns, true);
      }
      for (std::int64_t r = begin; r < end && request.down_bias; ++r) {
        kernels::rows::ops<float>().axpy(scratch.stripe + r * kMaxColumns, scratch.bias, 1.0f, n);
      }
    });
  }
};

}  // namespace

template <class T>
const float* prepare(const ExpertsRequest& request, const ExpertsInputs& inputs, Work<T>& work) {
  build_routing(inputs, request.index_dtype, work.index);
  work.find_hits();
  if (work.x == nullptr) return static_cast<const float*>(inputs.hidden);
  widen(inputs.hidden, DTypeOf<T>::value, inputs.num_tokens * request.hidden, work.x);
  return work.x;
}

template <class T>
void pack_b(const Pass<T>& pass) {
  const ExpertsRequest& request = pass.request;
  const auto chunks = [](const PackedB<T>& b) {
    return b.lora_rank > 0 ? ceil_div(b.out, kPackRows) : 0;
  };
  const std::int64_t first = chunks(pass.work.b_1);
  pass.pool.run(first + chunks(pass.work.b_2), [&](std::int64_t task, int) {
    const bool up = task < first;
    const PackedB<T>& b = up ? pass.work.b_1 : pass.work.b_2;
    const LoraSpec& lora = up ? request.gate_up_lora : request.down_lora;
    const void* from = up ? pass.inputs.gate_up_lora.b : pass.inputs.down_lora.b;
    const std::int64_t begin = (up ? task : task - first) * kPackRows;
    const std::int64_t end = std::min(b.out, begin + kPackRows);
    if (lora.dtype == DType::kBF16) {
      pack_b_rows(pass, b, static_cast<const bf16*>(from), begin, end);
    } else {
      pack_b_rows(pass, b, static_cast<const float*>(from), begin, end);
    }
  });
}

template <class T>
void pre_activation(const Pass<T>& pass, T* h, const Rounded<T>& a) {
  const ExpertsRequest& request = pass.request;
  const std::int64_t n =
      pass.columns_per_task(request.inter, pass.work.num_hits, !request.transposed);
  const std::int64_t blocks = ceil_div(request.inter, n);
  const PreActivation<T> products{pass, h, a};
  pass.pool.run(pass.work.num_hits * blocks, [&](std::int64_t task, int worker) {
    const std::int64_t i0 = task % blocks * n;
    products.run(task / blocks, i0, std::min(n, request.inter - i0), worker);
  });
}

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  Work<T> work = Work<T>::carve_forward(carver, request, inputs.num_tokens, pool.num_threads());
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const Pass<T> pass{request, inputs, work, pool, prepare(request, inputs, work)};
  pack_b(pass);
  if (work.b_1.lora_rank > 0) {
    pool.run(work.num_hits, [&](std::int64_t hit, int) {
      project(pass, request.gate_up_lora, inputs.gate_up_lora, pass.x_rows(), request.hidden,
              work.u_1, static_cast<T*>(saved.u_1), work.hits[hit]);
    });
  }
  pre_activation<T>(pass, static_cast<T*>(saved.h), work.a);
  if (work.b_2.lora_rank > 0) {
    pool.run(work.num_hits, [&](std::int64_t hit, int) {
      project(pass, request.down_lora, inputs.down_lora, pass.by_row(work.a, request.inter),
              request.inter, work.u_2, static_cast<T*>(saved.u_2), work.hits[hit]);
    });
  }
  const std::int64_t n = pass.columns_per_task(request.hidden, 1, !request.transposed);
  const Down<T> down{pass, static_cast<T*>(args.output)};
  pool.run(ceil_div(request.hidden, n), [&](std::int64_t task, int worker) {
    down.run(task * n, std::min(n, request.hidden - task * n), worker);
  });
}

#define MOESMITH_INSTANTIATE(T)                                                         \
  template const float* prepare(const ExpertsRequest&, const ExpertsInputs&, Work<T>&); \
  template void pack_b(const Pass<T>&);                                                 \
  template void pre_activation(const Pass<T>&, T*, const Rounded<T>&);                  \
  template void run_forward<T>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::experts::batched_mm
