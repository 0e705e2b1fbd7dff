// SPDX-License-Identifier: Apache-2.0
#include "experts/onednn_packed.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "experts/layer.h"
#include "experts/routing_sets.h"
#include "moesmith/tensor.h"

extern "C" void omp_set_num_threads(int);  // libgomp's, which Debian's oneDNN runs on

namespace moesmith::bench {
namespace {

using dnnl::memory;

constexpr int kRoutingSets = 8;
constexpr std::int64_t kRows = 256;  // of one product; fewer at an expert's end

// One product with a weight of every expert: c [m, n] = a [m, k] w_e, w [k, n] in oneDNN's layout.
struct Projection {
  std::int64_t n = 0, k = 0, lda = 0;
  memory::desc weight_desc;
  std::vector<memory> weights;                                            // per expert
  std::map<std::int64_t, std::pair<dnnl::matmul, memory::desc>> by_rows;  // and its scratchpad
};

// Rows [first, first + count) of the sorted list are a block of an expert.
struct Block {
  std::int64_t expert, first, count;
};

struct RoutingSet {
  std::vector<std::int64_t> token_of_row;  // sorted by expert
  std::vector<Block> blocks;
  std::int64_t experts_hit = 0;
};

RoutingSet sort_rows(const Case& c, const Tensor& index) {
  RoutingSet set;
  std::vector<std::vector<std::int64_t>> rows(static_cast<std::size_t>(c.size.num_experts));
  for (std::int64_t i = 0; i < index.numel(); ++i) {
    rows[static_cast<std::size_t>(index.data<std::int64_t>()[i])].push_back(i / c.size.top_k);
  }
  for (std::int64_t e = 0; e < c.size.num_experts; ++e) {
    const auto& mine = rows[static_cast<std::size_t>(e)];
    const auto count = static_cast<std::int64_t>(mine.size());
    set.experts_hit += count > 0;
    const auto first = static_cast<std::int64_t>(set.token_of_row.size());
    for (std::int64_t at = 0; at < count; at += kRows) {
      set.blocks.push_back({e, first + at, std::min(kRows, count - at)});
    }
    set.token_of_row.insert(set.token_of_row.end(), mine.begin(), mine.end());
  }
  return set;
}

}  // namespace

struct OneDnnPacked::State {
  Case c;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  memory::data_type type;
  std::int64_t element;
  Projection up, down, d_down, d_up;
  std::vector<RoutingSet> sets;
  Tensor hidden, gathered, inter, output, d_inter;  // [T,H], [T*K,H], [T*K,2I], [T*K,H], [T*K,I]
  std::vector<std::vector<std::byte>> scratchpads;  // per worker

  explicit State(const Case& wanted)
      : c(wanted),
        type(c.dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32),
        element(dtype_size(c.dtype)) {}

  memory::desc plain(std::int64_t rows, std::int64_t cols, std::int64_t stride) const {
    return {memory::dims{rows, cols}, type, memory::dims{stride, 1}};
  }

  dnnl::matmul::primitive_desc describe(const Projection& p,
                                        std::int64_t rows,
                                        const memory::desc& weight) const {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return {dnnl::matmul::desc(plain(rows, p.k, p.lda), weight, plain(rows, p.n, p.n)), attributes,
            engine};
  }

  // Packs w[e]^T (transposed: w[e]) of each expert; `weights` is [E, rows, cols].
  Projection pack(const Tensor& weights, bool transposed, std::int64_t lda) {
    const std::int64_t rows = weights.dim(1), cols = weights.dim(2);
    Projection p;
    p.n = transposed ? cols : rows;
    p.k = transposed ? rows : cols;
    p.lda = lda;
    const memory::desc any(memory::dims{p.k, p.n}, type, memory::format_tag::any);
    p.weight_desc = describe(p, kRows, any).weights_desc();
    const memory::desc from(memory::dims{p.k, p.n}, type,
                            transposed ? memory::dims{cols, 1} : memory::dims{1, cols});
    dnnl::stream stream(engine);
    for (std::int64_t e = 0; e < weights.dim(0); ++e) {
      memory source(from, engine, const_cast<void*>(weights.rows(e, e + 1).raw()));
      p.weights.emplace_back(p.weight_desc, engine);
      dnnl::reorder(source, p.weights.back()).execute(stream, source, p.weights.back());
    }
    stream.wait();
    return p;
  }

  void compile(Projection& p, std::int64_t rows) {
    if (p.by_rows.contains(rows)) return;
    const auto desc = describe(p, rows, p.weight_desc);
    p.by_rows[rows] = {dnnl::matmul(desc), desc.scratchpad_desc()};
    for (auto& pad : scratchpads) {
      pad.resize(std::max(pad.size(), desc.scratchpad_desc().get_size()));
    }
  }

  void multiply(Projection& p,
                const Block& block,
                const Tensor& from,
                Tensor& to,
                dnnl::stream& stream,
                int worker) {
    auto& [primitive, scratchpad] = p.by_rows.at(block.count);
    const auto at = [&](const Tensor& tensor, std::int64_t stride) {
      return static_cast<char*>(const_cast<void*>(tensor.raw())) + block.first * stride * element;
    };
    primitive.execute(
        stream,
        {{DNNL_ARG_SRC, memory(plain(block.count, p.k, p.lda), engine, at(from, p.lda))},
         {DNNL_ARG_WEIGHTS, p.weights[static_cast<std::size_t>(block.expert)]},
         {DNNL_ARG_DST, memory(plain(block.count, p.n, p.n), engine, at(to, p.n))},
         {DNNL_ARG_SCRATCHPAD,
          memory(scratchpad, engine, scratchpads[static_cast<std::size_t>(worker)].data())}});
  }

  void gather(const RoutingSet& set, const Block& block) {
    const auto row_bytes = static_cast<std::size_t>(c.size.hidden * element);
    for (std::int64_t r = block.first; r < block.first + block.count; ++r) {
      const auto row = static_cast<std::size_t>(r);
      std::memcpy(static_cast<char*>(gathered.raw()) + row * row_bytes,
                  static_cast<const char*>(hidden.raw()) +
                      static_cast<std::size_t>(set.token_of_row[row]) * row_bytes,
                  row_bytes);
    }
  }
};

OneDnnPacked::OneDnnPacked(const Case& c, ThreadPool& pool) : state_(std::make_unique<State>(c)) {
  State& s = *state_;
  const std::int64_t e = c.size.num_experts, h = c.size.hidden, i = c.size.inter;
  const std::int64_t slots = c.tokens * c.size.top_k;
  s.scratchpads.resize(static_cast<std::size_t>(pool.num_threads()));
  {
    const Tensor gate_up = random_tensor({e, 2 * i, h}, c.dtype, 1);
    s.up = s.pack(gate_up, false, h);
    if (c.backward()) s.d_up = s.pack(gate_up, true, 2 * i);
  }
  {
    const Tensor down = random_tensor({e, h, i}, c.dtype, 2);
    s.down = s.pack(down, false, 2 * i);  // the gate's half of h stands for the activation
    if (c.backward()) s.d_down = s.pack(down, true, h);
  }
  s.hidden = random_tensor({c.tokens, h}, c.dtype, 3);
  s.gathered = Tensor::zeros({slots, h}, c.dtype);
  s.inter = random_tensor({slots, 2 * i}, c.dtype, 4);
  s.output = Tensor::zeros({slots, h}, c.dtype);
  if (c.backward()) s.d_inter = Tensor::zeros({slots, i}, c.dtype);
  for (const Tensor& index : routing_sets(c, kRoutingSets)) s.sets.push_back(sort_rows(c, index));
  for (const RoutingSet& set : s.sets) {
    for (const Block& block : set.blocks) {
      for (Projection* p : {&s.up, &s.down, &s.d_down, &s.d_up}) {
        if (p->k > 0) s.compile(*p, block.count);
      }
    }
  }
}

OneDnnPacked::~OneDnnPacked() = default;

void OneDnnPacked::run(int repeat, ThreadPool& pool) {
  State& s = *state_;
  const RoutingSet& set = s.sets[static_cast<std::size_t>(repeat) % s.sets.size()];
  const auto blocks = static_cast<std::int64_t>(set.blocks.size());
  const auto each = [&](const auto& body) {
    pool.run(blocks, [&](std::int64_t task, int worker) {
      omp_set_num_threads(1);
      dnnl::stream stream(s.engine);
      body(set.blocks[static_cast<std::size_t>(task)], stream, worker);
      stream.wait();
    });
  };
  each([&](const Block& block, dnnl::stream& stream, int worker) {
    s.gather(set, block);
    s.multiply(s.up, block, s.gathered, s.inter, stream, worker);
    s.multiply(s.down, block, s.inter, s.output, stream, worker);
  });
  if (!s.c.backward()) return;
  each([&](const Block& block, dnnl::stream& stream, int worker) {
    s.gather(set, block);
    s.multiply(s.d_down, block, s.gathered, s.d_inter, stream, worker);
    s.multiply(s.d_up, block, s.inter, s.output, stream, worker);
  });
}

double OneDnnPacked::experts_hit() const {
  double hit = 0;
  for (const RoutingSet& set : state_->sets) hit += static_cast<double>(set.experts_hit);
  return hit / static_cast<double>(state_->sets.size());
}

std::int64_t slot_bytes(const Case& c) {
  return c.tokens * c.size.top_k * (3 * c.size.hidden + 3 * c.size.inter) * dtype_size(c.dtype);
}

}  // namespace moesmith::bench
