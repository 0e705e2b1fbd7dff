// SPDX-License-Identifier: Apache-2.0
#include "experts/case.h"

#include <charconv>
#include <span>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::bench {
namespace {

constexpr LayerSize kSizes[] = {{"qwen3-30b-a3b", 128, 8, 2048, 768},
                                {"olmoe-1b-7b", 64, 8, 2048, 1024},
                                {"granite-1b-a400m", 32, 8, 1024, 512},
                                {"mixtral-8x7b", 8, 2, 4096, 14336}};
constexpr Mode kModes[] = {Mode::kForward, Mode::kLora, Mode::kFull};
constexpr RoutingKind kRoutings[] = {RoutingKind::kUniform, RoutingKind::kZipf, RoutingKind::kOne};
constexpr DType kDTypes[] = {DType::kBF16, DType::kF32};
constexpr IsaLevel kIsas[] = {IsaLevel::kPortable, IsaLevel::kAvx2, IsaLevel::kAvx512,
                              IsaLevel::kAvx512Bf16};

// The one of `values` that is called `word`.
template <class T, class Name>
T parse(const char* option, const std::string& word, std::span<const T> values, Name name) {
  std::string known;
  for (const T& value : values) {
    if (name(value) == word) return value;
    known += str(known.empty() ? "" : ", ", name(value));
  }
  throw Error(ErrorCode::kInvalidInput,
              str("--", option, ": unknown name, got ", word, ", expected one of ", known));
}

std::vector<IsaLevel> isas_of(const Options& options) {
  std::vector<IsaLevel> result;
  for (const std::string& word : options.list("isa")) {
    result.push_back(word == "best" ? detected_isa()
                                    : parse<IsaLevel>("isa", word, kIsas, [](IsaLevel level) {
                                        return std::string(isa_name(level));
                                      }));
  }
  return result;
}

std::vector<std::int64_t> tokens_of(const Options& options) {
  std::vector<std::int64_t> result;
  for (const std::string& word : options.list("tokens")) {
    std::int64_t tokens = 0;
    std::from_chars(word.data(), word.data() + word.size(), tokens);
    if (tokens < 1) {
      throw Error(ErrorCode::kInvalidInput,
                  str("--tokens: not a size, got \"", word, "\", expected 1 or more"));
    }
    result.push_back(tokens);
  }
  return result;
}

}  // namespace

const char* name_of(Mode mode) {
  return mode == Mode::kForward ? "forward" : mode == Mode::kLora ? "lora" : "full";
}

const char* name_of(RoutingKind routing) {
  return routing == RoutingKind::kUniform ? "uniform"
         : routing == RoutingKind::kZipf  ? "zipf"
                                          : "one";
}

const char* name_of(DType dtype) { return dtype == DType::kBF16 ? "bf16" : "f32"; }

Options case_options() {
  return Options(
      {{"implementation", "scattermoe",
        "names of the table, auto or all; with +packed: frozen weights packed once"},
       {"shape", "qwen3-30b-a3b", "qwen3-30b-a3b, olmoe-1b-7b, granite-1b-a400m, mixtral-8x7b"},
       {"tokens", "1024", "1,16,256,1024,4096"},
       {"mode", "lora", "forward, lora (frozen weights), full"},
       {"dtype", "bf16", "bf16, f32"},
       {"routing", "uniform", "uniform, zipf, one (all tokens on the same experts)"},
       {"isa", "best", "portable, avx2, avx512, avx512_bf16"},
       {"threads", "0", "0: as many as the process may use"},
       {"rank", "16", "rank of the LoRA factors"},
       {"seconds", "1", "time to spend on the repeats of a case"},
       {"bare", "0", "above 0: so many runs and no measurement, for a profiler"}});
}

std::vector<Case> cases_of(const Options& options) {
  const auto names = [](const auto& value) { return std::string(name_of(value)); };
  std::vector<Case> cases;
  for (const std::string& shape : options.list("shape")) {
    const LayerSize size = parse<LayerSize>("shape", shape, kSizes,
                                            [](const LayerSize& s) { return std::string(s.name); });
    for (const std::string& dtype : options.list("dtype")) {
      for (const std::string& mode : options.list("mode")) {
        for (const std::string& routing : options.list("routing")) {
          for (const std::int64_t tokens : tokens_of(options)) {
            for (const IsaLevel isa : isas_of(options)) {
              for (const std::string& implementation : options.list("implementation")) {
                cases.push_back(
                    {implementation, size, tokens, parse<Mode>("mode", mode, kModes, names),
                     parse<DType>("dtype", dtype, kDTypes, names),
                     parse<RoutingKind>("routing", routing, kRoutings, names), isa,
                     static_cast<int>(options.number("threads", 0)), options.number("rank", 1),
                     options.seconds("seconds"), options.number("bare", 0)});
              }
            }
          }
        }
      }
    }
  }
  return cases;
}

experts::ExpertsRequest request_of(const Case& c) {
  using experts::GradMode;
  experts::ExpertsRequest r;
  const std::size_t suffix = c.implementation.find(kPackedSuffix);
  r.implementation = c.implementation.substr(0, suffix);
  r.packed_weights = suffix != std::string::npos;
  r.num_experts = c.size.num_experts;
  r.top_k = c.size.top_k;
  r.hidden = c.size.hidden;
  r.inter = c.size.inter;
  r.max_tokens = c.tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = c.dtype;
  if (!c.backward()) return r;
  const experts::GradSpec overwrite{GradMode::kOverwrite, DType::kF32};
  r.wanted.hidden = {GradMode::kOverwrite, c.dtype};
  r.wanted.top_k_weights = overwrite;
  if (c.mode == Mode::kLora) {
    r.gate_up_lora =
        r.down_lora = {.lora_rank = c.lora_rank, .lora_scale = 2.0f, .dtype = DType::kF32};
    r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.down_a = r.wanted.down_b = overwrite;
  } else {
    r.wanted.gate_up = r.wanted.down = overwrite;
  }
  return r;
}

std::string implementation_of(const experts::ExpertsPlan& plan) {
  return str(plan.implementation(), plan.packed_bytes() > 0 ? kPackedSuffix : "");
}

}  // namespace moesmith::bench
