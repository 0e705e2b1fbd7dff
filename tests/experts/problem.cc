// SPDX-License-Identifier: Apache-2.0
#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/rng.h"

namespace moesmith::experts::testing {
namespace {

constexpr std::size_t kBand = 256;
constexpr auto kPattern = std::byte{0xa5};

double rounded_to(DType dtype, double value) {
  switch (dtype) {
    case DType::kBF16:
      return round_to_bf16(value);
    case DType::kF32:
      return static_cast<float>(value);
    default:
      return value;
  }
}

struct Filler {
  std::uint64_t seed;
  std::uint64_t stream = 0;

  Values normal(std::int64_t count, double scale, DType dtype) {
    const Rng rng(seed, ++stream);
    Values values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      values[static_cast<std::size_t>(i)] =
          rounded_to(dtype, scale * rng.normal(static_cast<std::uint64_t>(i)));
    }
    return values;
  }
};

std::vector<std::int64_t> make_index(const Case& c, std::uint64_t seed) {
  const std::int64_t num_experts = c.request.num_experts, top_k = c.request.top_k;
  const Rng rng(seed, 999);
  std::vector<std::int64_t> index(static_cast<std::size_t>(c.num_tokens * top_k));
  for (std::size_t slot = 0; slot < index.size(); ++slot) {
    const auto k = static_cast<std::int64_t>(slot) % top_k;
    const auto token = static_cast<std::uint64_t>(static_cast<std::int64_t>(slot) / top_k);
    const auto first =
        static_cast<std::int64_t>(rng.below(token, static_cast<std::uint64_t>(num_experts)));
    switch (c.routing) {
      case Routing::kRandom:
        index[slot] = (first + k) % num_experts;
        break;
      case Routing::kDuplicates:
        index[slot] = first;
        break;
      case Routing::kOneExpert:
        index[slot] = num_experts - 1;
        break;
      case Routing::kZipf:
        index[slot] =
            static_cast<std::int64_t>(std::pow(static_cast<double>(num_experts),
                                               static_cast<double>(rng.uniform(5000 + slot)))) -
            1;
        index[slot] = std::min(index[slot], num_experts - 1);
        break;
      case Routing::kSkipped:
        index[slot] =
            slot % 3 == 0 ? (slot % 2 == 0 ? -1 : num_experts + 7) : (first + k) % num_experts;
        break;
      case Routing::kAllSkipped:
        index[slot] = slot % 2 == 0 ? num_experts : -1000;
        break;
    }
  }
  return index;
}

Buffer make(const Values& values, DType dtype) {
  Buffer buffer(static_cast<std::int64_t>(values.size()), dtype);
  for (std::size_t i = 0; i < values.size(); ++i) {
    buffer.set(static_cast<std::int64_t>(i), values[i]);
  }
  return buffer;
}

// A gradient's buffer before the call.
Buffer target(const GradSpec& spec, std::size_t count, double before) {
  Buffer buffer(static_cast<std::int64_t>(count), spec.dtype);
  for (std::int64_t i = 0; i < buffer.count; ++i) {
    buffer.set(i, spec.mode == GradMode::kAccumulate ? before : std::nan(""));
  }
  return buffer;
}

}  // namespace

Guarded::Guarded(std::int64_t bytes, std::int64_t shift)
    : storage_(static_cast<std::size_t>(bytes) + 2 * kBand + 128, kPattern),
      size_(static_cast<std::size_t>(bytes)) {
  const auto address = reinterpret_cast<std::uintptr_t>(storage_.data()) + kBand;
  begin_ = kBand + (64 - address % 64) % 64 + static_cast<std::size_t>(shift);
}

bool Guarded::intact() const {
  for (std::size_t i = 0; i < storage_.size(); ++i) {
    const bool inside = i >= begin_ && i < begin_ + size_;
    if (!inside && storage_[i] != kPattern) return false;
  }
  return true;
}

void Guarded::fill(int byte) { std::memset(data(), byte, size_); }

Buffer::Buffer(std::int64_t n, DType type, std::int64_t shift)
    : bytes(n * dtype_size(type), shift), dtype(type), count(n) {}

void Buffer::set(std::int64_t i, double value) {
  std::byte* at = bytes.data() + i * dtype_size(dtype);
  const auto f = static_cast<float>(value);
  const bf16 b(f);
  switch (dtype) {
    case DType::kBF16:
      std::memcpy(at, &b, sizeof b);
      return;
    case DType::kF32:
      std::memcpy(at, &f, sizeof f);
      return;
    default:
      std::memcpy(at, &value, sizeof value);
  }
}

double Buffer::get(std::int64_t i) const {
  const std::byte* at = bytes.data() + i * dtype_size(dtype);
  float f;
  bf16 b;
  double d;
  switch (dtype) {
    case DType::kBF16:
      std::memcpy(&b, at, sizeof b);
      return static_cast<float>(b);
    case DType::kF32:
      std::memcpy(&f, at, sizeof f);
      return f;
    default:
      std::memcpy(&d, at, sizeof d);
      return d;
  }
}

Values Buffer::values() const {
  Values all(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) all[static_cast<std::size_t>(i)] = get(i);
  return all;
}

Problem::Problem(const Case& c, std::uint64_t seed) : case_(c) {
  const ExpertsRequest& r = c.request;
  const std::int64_t e = r.num_experts, h = r.hidden, i = r.inter, w = r.gate_up_width();
  const std::int64_t r_1 = r.gate_up_lora.lora_rank * e, r_2 = r.down_lora.lora_rank * e;
  const auto inverse_root = [](std::int64_t n) { return 1.0 / std::sqrt(static_cast<double>(n)); };
  Filler fill{seed};
  data_.hidden = fill.normal(c.num_tokens * h, 1.0, r.compute_dtype);
  data_.d_output = fill.normal(c.num_tokens * h, 1.0, r.d_output_dtype);
  data_.route_weights = fill.normal(c.num_tokens * r.top_k, 0.6, r.route_weights_dtype);
  data_.w_1 = fill.normal(e * w * h, inverse_root(h), r.weight_dtype);
  data_.w_2 = fill.normal(e * h * i, inverse_root(i), r.weight_dtype);
  if (r.gate_up_bias) data_.bias_1 = fill.normal(e * w, 0.4, r.weight_dtype);
  if (r.down_bias) data_.bias_2 = fill.normal(e * h, 0.4, r.weight_dtype);
  data_.a_1 = fill.normal(r_1 * h, inverse_root(h), r.gate_up_lora.dtype);
  data_.b_1 = fill.normal(w * r_1, 0.3, r.gate_up_lora.dtype);
  data_.a_2 = fill.normal(r_2 * i, inverse_root(i), r.down_lora.dtype);
  data_.b_2 = fill.normal(h * r_2, 0.3, r.down_lora.dtype);
  data_.index = make_index(c, seed);
  lay_out();
}

void Problem::lay_out() {
  const ExpertsRequest& r = case_.request;
  hidden_ = make(data_.hidden, r.compute_dtype);
  d_output_ = make(data_.d_output, r.d_output_dtype);
  route_weights_ = make(data_.route_weights, r.route_weights_dtype);
  bias_1_ = make(data_.bias_1, r.weight_dtype);
  bias_2_ = make(data_.bias_2, r.weight_dtype);
  a_1_ = make(data_.a_1, r.gate_up_lora.dtype);
  b_1_ = make(data_.b_1, r.gate_up_lora.dtype);
  a_2_ = make(data_.a_2, r.down_lora.dtype);
  b_2_ = make(data_.b_2, r.down_lora.dtype);
  index_ = Guarded(static_cast<std::int64_t>(data_.index.size()) * dtype_size(r.index_dtype));
  for (std::size_t s = 0; s < data_.index.size(); ++s) {
    if (r.index_dtype == DType::kI32) {
      const auto value = static_cast<std::int32_t>(data_.index[s]);
      std::memcpy(index_.data() + s * sizeof value, &value, sizeof value);
    } else {
      std::memcpy(index_.data() + s * sizeof(std::int64_t), &data_.index[s], sizeof(std::int64_t));
    }
  }
  lay_out_weights();
}

std::int64_t Problem::stride_padding() const {
  return case_.request.aligned_weights ? 8 * case_.stride_padding : case_.stride_padding;
}

void Problem::lay_out_weights() {
  const ExpertsRequest& r = case_.request;
  const std::int64_t width = r.gate_up_width();
  const bool separate = r.activation.gated && r.gate_up_layout == GateUpLayout::kSeparate;
  first_.clear(), up_.clear(), down_.clear();
  // Each expert's matrix lies on its own, at odd alignments, as in a mapped file.
  const auto place = [&](std::vector<Buffer>& to, std::vector<const void*>& base,
                         const double* from, std::int64_t out, std::int64_t in) {
    const std::int64_t rows = r.transposed ? in : out, cols = r.transposed ? out : in;
    const std::int64_t stride = cols + stride_padding();
    const auto shift = static_cast<std::int64_t>(to.size() % 3) *
                       (r.aligned_weights ? 16 : dtype_size(r.weight_dtype));
    // The last row ends where the matrix ends: its padding is not there.
    Buffer buffer((rows - 1) * stride + cols, r.weight_dtype, shift);
    buffer.bytes.fill(0xff);  // NaN between the rows
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        buffer.set(r.transposed ? i * stride + o : o * stride + i, from[o * in + i]);
      }
    }
    to.push_back(std::move(buffer));
    base.push_back(to.back().bytes.data());
  };
  first_base_.clear(), up_base_.clear(), down_base_.clear();
  for (std::int64_t e = 0; e < r.num_experts; ++e) {
    const double* w_1 = data_.w_1.data() + e * width * r.hidden;
    place(first_, first_base_, w_1, separate ? r.inter : width, r.hidden);
    if (separate) place(up_, up_base_, w_1 + r.inter * r.hidden, r.inter, r.hidden);
    place(down_, down_base_, data_.w_2.data() + e * r.hidden * r.inter, r.hidden, r.inter);
  }
}

ExpertsInputs Problem::inputs() const {
  const ExpertsRequest& r = case_.request;
  const bool separate = r.activation.gated && r.gate_up_layout == GateUpLayout::kSeparate;
  const std::int64_t width = separate ? r.inter : r.gate_up_width();
  ExpertsInputs in;
  in.num_tokens = case_.num_tokens;
  in.hidden = hidden_.bytes.data();
  in.top_k_index = index_.data();
  in.top_k_weights = route_weights_.bytes.data();
  const std::int64_t padding = stride_padding();
  in.weights.gate_up = {first_base_, (r.transposed ? width : r.hidden) + padding};
  if (separate) in.weights.up = {up_base_, (r.transposed ? width : r.hidden) + padding};
  in.weights.down = {down_base_, (r.transposed ? r.hidden : r.inter) + padding};
  in.weights.gate_up_bias = bias_1_.bytes.data();
  in.weights.down_bias = bias_2_.bytes.data();
  in.gate_up_lora = {a_1_.bytes.data(), b_1_.bytes.data()};
  in.down_lora = {a_2_.bytes.data(), b_2_.bytes.data()};
  return in;
}

namespace {

// Physical [E, in, out] back to [E, out, in].
Values untransposed(const Values& from, std::int64_t e, std::int64_t out, std::int64_t in) {
  Values to(from.size());
  for (std::int64_t x = 0; x < e; ++x) {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        to[static_cast<std::size_t>((x * out + o) * in + i)] =
            from[static_cast<std::size_t>((x * in + i) * out + o)];
      }
    }
  }
  return to;
}

class PoolExecutor : public Executor {
 public:
  explicit PoolExecutor(ThreadPool& pool) : pool_(pool) {}
  ExpertsSizes sizes(const ExpertsPlan& plan, std::int64_t num_tokens) override {
    return plan.sizes(num_tokens, pool_.num_threads());
  }
  void forward(const ExpertsPlan& plan, const ForwardArgs& args) override {
    plan.forward(args, pool_);
  }
  void backward(const ExpertsPlan& plan, const BackwardArgs& args) override {
    plan.backward(args, pool_);
  }

 private:
  ThreadPool& pool_;
};

}  // namespace

Outcome Problem::run(const ExpertsPlan& plan, ThreadPool& pool, double before) const {
  PoolExecutor executor(pool);
  return run(plan, executor, before);
}

Outcome Problem::run(const ExpertsPlan& plan, Executor& executor, double before) const {
  const ExpertsRequest& r = plan.request();
  const WantedGradients& w = r.wanted;
  const ExpertsSizes sizes = executor.sizes(plan, case_.num_tokens);
  Guarded saved(sizes.saved_bytes), forward_scratch(sizes.forward_scratch_bytes);
  Guarded backward_scratch(sizes.backward_scratch_bytes);
  saved.fill(0xff), forward_scratch.fill(0xff), backward_scratch.fill(0xff);
  Buffer output(static_cast<std::int64_t>(data_.hidden.size()), r.compute_dtype);
  output.bytes.fill(0xff);

  ForwardArgs forward;
  forward.inputs = inputs();
  forward.output = output.bytes.data();
  forward.saved = saved.span();
  forward.scratch = forward_scratch.span();
  executor.forward(plan, forward);

  struct Target {
    const char* name;
    const GradSpec& spec;
    std::size_t count;
    void* ExpertsGradients::*pointer;
    Values Results::*values;
  };
  using G = ExpertsGradients;
  const Target targets[] = {
      {"hidden", w.hidden, data_.hidden.size(), &G::hidden, &Results::hidden},
      {"top_k_weights", w.top_k_weights, data_.route_weights.size(), &G::top_k_weights,
       &Results::route_weights},
      {"gate_up", w.gate_up, data_.w_1.size(), &G::gate_up, &Results::w_1},
      {"down", w.down, data_.w_2.size(), &G::down, &Results::w_2},
      {"gate_up_bias", w.gate_up_bias, data_.bias_1.size(), &G::gate_up_bias, &Results::bias_1},
      {"down_bias", w.down_bias, data_.bias_2.size(), &G::down_bias, &Results::bias_2},
      {"gate_up_a", w.gate_up_a, data_.a_1.size(), &G::gate_up_a, &Results::a_1},
      {"gate_up_b", w.gate_up_b, data_.b_1.size(), &G::gate_up_b, &Results::b_1},
      {"down_a", w.down_a, data_.a_2.size(), &G::down_a, &Results::a_2},
      {"down_b", w.down_b, data_.b_2.size(), &G::down_b, &Results::b_2}};

  Outcome result;
  const auto keep = [&](const char* name, const Buffer& buffer) {
    if (!buffer.bytes.intact()) result.broken_band = name;
    result.raw.emplace_back(buffer.bytes.data(), buffer.bytes.data() + buffer.bytes.size());
    return buffer.values();
  };
  BackwardArgs backward;
  std::vector<Buffer> buffers;
  for (const Target& t : targets) buffers.push_back(target(t.spec, t.count, before));
  if (w.any()) {
    backward.inputs = inputs();
    backward.d_output = d_output_.bytes.data();
    backward.saved = saved.span();
    backward.scratch = backward_scratch.span();
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (targets[i].spec.wanted())
        backward.gradients.*(targets[i].pointer) = buffers[i].bytes.data();
    }
    executor.backward(plan, backward);
  }
  result.values.output = keep("output", output);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const Target& t = targets[i];
    Values values = keep(t.name, buffers[i]);
    if (t.spec.mode == GradMode::kAccumulate) {
      for (double& at : values) at -= before;
    }
    result.values.*(t.values) = values;
  }
  if (r.transposed) {
    const std::int64_t e = r.num_experts;
    result.values.w_1 = untransposed(result.values.w_1, e, r.gate_up_width(), r.hidden);
    result.values.w_2 = untransposed(result.values.w_2, e, r.hidden, r.inter);
  }
  for (const auto& [name, guarded] : {std::pair<const char*, const Guarded*>{"saved", &saved},
                                      {"forward scratch", &forward_scratch},
                                      {"backward scratch", &backward_scratch}}) {
    if (!guarded->intact()) result.broken_band = name;
  }
  return result;
}

}  // namespace moesmith::experts::testing
