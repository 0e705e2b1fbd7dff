// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <regex>
#include <set>
#include <span>

#include "core/log.h"
#include "core/rng.h"
#include "core/text.h"
#include "kernels/rows/rows.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

bool is_float(const io::TensorInfo& info) {
  return info.dtype &&
         (*info.dtype == DType::kF32 || *info.dtype == DType::kBF16 || *info.dtype == DType::kF16);
}

std::vector<std::string> all_parts(const WeightSpec& weight) {
  std::vector<std::string> names;
  for (std::int64_t e = 0; e < weight.shape[0]; ++e) {
    for (std::size_t p = 0; p < weight.parts.size(); ++p) names.push_back(weight.part_name(e, p));
  }
  return names;
}

// Finds the tensors of each weight and notes every defect, so that one error can list them all.
class Finder {
 public:
  Finder(const DecoderSpec& spec, const io::Checkpoint& checkpoint)
      : spec_(spec), family_(find_family(spec.model_type)), checkpoint_(checkpoint) {}

  // The names of the tensors that a weight consists of.
  std::vector<std::string> find(const WeightSpec& weight) {
    for (const std::string& name : {weight.disk, weight.name}) {
      if (!checkpoint_.contains(name)) continue;
      check(name, weight.shape);
      return {name};
    }
    if (weight.kind != WeightKind::kExperts) {
      missing(weight.disk, weight.shape);
      return {weight.disk};
    }
    std::vector<std::string> names = all_parts(weight);
    for (const std::string& name : names) {
      if (checkpoint_.contains(name)) {
        check(name, weight.part_shape());
      } else {
        missing(name, weight.part_shape());
      }
    }
    return names;
  }

  // To be called when every weight was looked for.
  void finish(bool report) {
    std::vector<std::regex> ignored;
    for (const std::string_view pattern : family_.ignored) {
      ignored.emplace_back(pattern.begin(), pattern.end());
    }
    std::vector<std::string> in_vain;
    for (const std::string& name : checkpoint_.names()) {
      if (used_.contains(name)) continue;
      const bool known = (spec_.tie_word_embeddings && name == "lm_head.weight") ||
                         std::any_of(ignored.begin(), ignored.end(), [&](const std::regex& re) {
                           return std::regex_match(name, re);
                         });
      if (known) {
        in_vain.push_back(name);
      } else {
        defect(str(checkpoint_.file_of(name), ": ", name, ": got shape ",
                   to_string(checkpoint_.info(name).shape), ", expected no such tensor in a ",
                   spec_.model_type, " model"));
      }
    }
    if (num_defects_ > 0) {
      const std::int64_t more = num_defects_ - static_cast<std::int64_t>(defects_.size());
      std::string text = defects_.front();
      for (std::size_t i = 1; i < defects_.size(); ++i) text += "\n" + defects_[i];
      if (more > 0) text += str("\nand ", more, " more");
      throw Error(ErrorCode::kInvalidInput, text);
    }
    if (report && !in_vain.empty()) {
      log(LogLevel::kInfo, str(checkpoint_.folder(), ": not used: ", in_vain.size(), " tensor",
                               in_vain.size() > 1 ? "s" : "", " (", in_vain.front(),
                               in_vain.size() > 1 ? ", ..." : "", ")"));
    }
  }

 private:
  static constexpr std::size_t kMaxListed = 8;

  void defect(std::string line) {
    if (defects_.size() < kMaxListed) defects_.push_back(std::move(line));
    ++num_defects_;
  }
  void missing(const std::string& name, const Shape& shape) {
    defect(str(checkpoint_.folder(), ": ", name, ": got no such tensor, expected shape ",
               to_string(shape)));
  }
  void check(const std::string& name, const Shape& expected) {
    used_.insert(name);
    const io::TensorInfo& info = checkpoint_.info(name);
    if (info.shape != expected) {
      defect(str(checkpoint_.file_of(name), ": ", name, ": got shape ", to_string(info.shape),
                 ", expected ", to_string(expected)));
    }
    if (!is_float(info)) {
      defect(str(checkpoint_.file_of(name), ": ", name, ": got dtype ", info.dtype_text,
                 ", expected F32, F16 or BF16"));
    }
  }

  const DecoderSpec& spec_;
  const Family& family_;
  const io::Checkpoint& checkpoint_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> defects_;
  std::int64_t num_defects_ = 0;
};

// One tensor [E, parts * rows, cols] of `dtype` from the pieces.
Tensor fuse(const Weight& weight, const io::Checkpoint& checkpoint, DType dtype, ThreadPool& pool) {
  Tensor out = Tensor::empty(weight.spec.shape, dtype);
  const auto count = static_cast<std::int64_t>(weight.disk_names.size());
  const std::int64_t bytes = out.bytes() / count;
  pool.run(count, [&](std::int64_t i, int) {
    const Tensor piece = checkpoint.tensor(weight.disk_names[static_cast<std::size_t>(i)]);
    const Tensor cast = piece.dtype() == dtype ? piece : piece.to(dtype);
    std::memcpy(static_cast<char*>(out.raw()) + i * bytes, cast.raw(),
                static_cast<std::size_t>(bytes));
  });
  return out;
}

// Drawn in f32, a stretch at a time: no copy of the whole in f32 stands beside it.
Tensor draw(const Weight& weight, double range, const Rng& rng, DType dtype, ThreadPool& pool) {
  Tensor values = Tensor::empty(weight.spec.shape, dtype);
  const WeightKind kind = weight.spec.kind;
  const auto scale = static_cast<float>(range);
  constexpr std::int64_t kStretch = 4096;
  pool.for_chunks(values.numel(), kStretch, [&](std::int64_t begin, std::int64_t end) {
    float drawn[kStretch];
    const std::span<float> stretch(drawn, static_cast<std::size_t>(end - begin));
    if (kind == WeightKind::kNorm || kind == WeightKind::kBias) {
      std::fill(stretch.begin(), stretch.end(), kind == WeightKind::kNorm ? 1.0f : 0.0f);
    } else {
      rng.normals(static_cast<std::uint64_t>(begin), stretch);
      for (float& value : stretch) value *= scale;
    }
    if (dtype == DType::kF32) {
      std::copy(stretch.begin(), stretch.end(), values.data<float>() + begin);
    } else {
      kernels::rows::ops<bf16>().from_f32(values.data<bf16>() + begin, drawn, 1.0f, end - begin);
    }
  });
  return values;
}

// In `dtype`; shares the map where it can.
Tensor read(const Weight& weight, const io::Checkpoint& checkpoint, DType dtype, ThreadPool& pool) {
  if (weight.per_expert()) return fuse(weight, checkpoint, dtype, pool);
  Tensor value = checkpoint.tensor(weight.disk_names.front());
  return value.dtype() == dtype ? value : value.to(dtype);
}

}  // namespace

DType choose_compute_dtype(ComputeDType asked,
                           const io::Checkpoint* checkpoint,
                           const io::JsonRef& config) {
  if (asked != ComputeDType::kAuto) {
    return asked == ComputeDType::kF32 ? DType::kF32 : DType::kBF16;
  }
  if (checkpoint != nullptr && checkpoint->contains("model.embed_tokens.weight")) {
    const auto dtype = checkpoint->info("model.embed_tokens.weight").dtype;
    return dtype == DType::kF32 ? DType::kF32 : DType::kBF16;
  }
  const std::string stored = config.get_string("dtype", config.get_string("torch_dtype", ""));
  return stored == "float32" ? DType::kF32 : DType::kBF16;
}

std::deque<Weight> describe_weights(const DecoderSpec& spec,
                                    const io::Checkpoint* checkpoint,
                                    const WeightRequest& request,
                                    bool report) {
  std::deque<Weight> weights;
  std::optional<Finder> finder;
  if (checkpoint != nullptr) finder.emplace(spec, *checkpoint);
  for (const WeightSpec& w : weights_of(spec, find_family(spec.model_type))) {
    Weight& weight = weights.emplace_back();
    weight.spec = w;
    weight.parameter.name = w.name;
    weight.parameter.shape = w.shape;
    weight.parameter.trainable = request.trainable;
    if (finder) {
      weight.disk_names = finder->find(w);
    } else if (w.kind == WeightKind::kExperts) {
      weight.disk_names = all_parts(w);
    } else {
      weight.disk_names = {w.disk};
    }
  }
  if (finder) finder->finish(report);
  for (Weight& weight : weights) {
    weight.disk_dtype = request.compute;
    if (checkpoint == nullptr) continue;
    weight.disk_dtype = *checkpoint->info(weight.disk_names.front()).dtype;
    weight.separate = weight.per_expert() && !request.trainable &&
                      std::all_of(weight.disk_names.begin(), weight.disk_names.end(),
                                  [&](const std::string& name) {
                                    return checkpoint->info(name).dtype == request.compute;
                                  });
  }
  return weights;
}

void fill_weights(std::deque<Weight>& weights,
                  const io::Checkpoint* checkpoint,
                  const WeightRequest& request,
                  ThreadPool& pool) {
  std::uint64_t stream = 0;
  for (Weight& weight : weights) {
    Parameter& p = weight.parameter;
    const Rng rng(request.seed, stream++);
    if (weight.separate) {
      for (const std::string& name : weight.disk_names) {
        weight.pieces.push_back(checkpoint->tensor(name));
      }
      continue;
    }
    const DType dtype = request.trainable ? DType::kF32 : request.compute;
    Tensor value = checkpoint != nullptr
                       ? read(weight, *checkpoint, dtype, pool)
                       : draw(weight, request.initializer_range, rng, dtype, pool);
    if (!request.trainable) {
      p.value = value.dtype() == dtype ? std::move(value) : value.to(dtype);
      continue;
    }
    // What read() shares with the map must not be written to.
    p.master = checkpoint != nullptr && !weight.per_expert() && weight.disk_dtype == DType::kF32
                   ? value.clone()
                   : std::move(value);
    p.value = request.compute == DType::kF32 ? p.master : p.master.to(request.compute);
    p.grad = Tensor::zeros(p.shape, DType::kF32);
  }
}

}  // namespace moesmith::model
