// SPDX-License-Identifier: Apache-2.0
// moesmith bench experts: the experts layer's implementations on this machine's CPU, and what each
// one that does not run says.
#include <cstdio>
#include <sstream>

#include "cli/command.h"
#include "cli/experts_timing.h"
#include "cli/tables.h"
#include "cli/terminal.h"
#include "core/text.h"
#include "io/json.h"

namespace moesmith::cli {
namespace {

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string option(const Arguments& arguments, const char* name, const char* otherwise) {
  const auto found = arguments.options.find(name);
  return found == arguments.options.end() ? otherwise : found->second;
}

std::vector<std::string> list(const Arguments& arguments, const char* name, const char* otherwise) {
  std::vector<std::string> items;
  std::istringstream text(option(arguments, name, otherwise));
  for (std::string item; std::getline(text, item, ',');) items.push_back(item);
  return items;
}

[[noreturn]] void wrong(const char* name, const std::string& got, const std::string& expected) {
  throw Error(ErrorCode::kInvalidInput,
              str("--", name, ": got \"", got, "\", expected ", expected));
}

double number(const char* name, const std::string& text, double least, double most) {
  std::istringstream in(text);
  double value = 0;
  if (!(in >> value) || !in.eof() || value < least || value > most) {
    wrong(name, text, str("a number from ", least, " to ", most));
  }
  return value;
}

std::int64_t whole(const char* name, const std::string& text, double least, double most) {
  const double value = number(name, text, least, most);
  if (value != static_cast<double>(static_cast<std::int64_t>(value))) {
    wrong(name, text, "a whole number");
  }
  return static_cast<std::int64_t>(value);
}

// One of `names`, by its place.
std::size_t choice(const char* name,
                   const std::string& text,
                   const std::vector<std::string>& names) {
  std::string all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == text) return i;
    all += (i == 0 ? "" : ", ") + names[i];
  }
  wrong(name, text, all);
}

const std::vector<std::string> kModes = {"forward", "lora", "full"};
const std::vector<std::string> kRoutings = {"uniform", "skewed"};

std::vector<LayerCase> cases_of(const Arguments& arguments) {
  std::vector<std::string> names;
  for (const LayerShape& shape : layer_shapes()) names.push_back(shape.name);
  LayerCase c;
  c.lora_rank = whole("rank", option(arguments, "rank", "16"), 1, 1024);
  c.dtype = choice("dtype", option(arguments, "dtype", "bf16"), {"bf16", "f32"}) == 0 ? DType::kBF16
                                                                                      : DType::kF32;
  std::vector<LayerCase> cases;
  for (const std::string& shape : list(arguments, "shape", "qwen3-30b-a3b")) {
    c.shape = layer_shapes()[choice("shape", shape, names)];
    for (const std::string& tokens : list(arguments, "tokens", "64")) {
      c.tokens = whole("tokens", tokens, 1, 1 << 20);
      for (const std::string& mode : list(arguments, "mode", "lora")) {
        c.mode = static_cast<LayerMode>(choice("mode", mode, kModes));
        for (const std::string& way : list(arguments, "routing", "uniform")) {
          c.skewed = choice("routing", way, kRoutings) == 1;
          cases.push_back(c);
        }
      }
    }
  }
  return cases;
}

const char* mode_of(const LayerCase& c) { return kModes[static_cast<std::size_t>(c.mode)].c_str(); }
const char* routing_of(const LayerCase& c) { return kRoutings[c.skewed ? 1 : 0].c_str(); }

std::string title(const LayerCase& c) {
  return str(c.shape.name, " (E ", c.shape.num_experts, ", K ", c.shape.top_k, ", H ",
             c.shape.hidden, ", I ", c.shape.inter, "), ", c.tokens, " tokens, ", mode_of(c),
             c.mode == LayerMode::kLora ? str(" r = ", c.lora_rank) : "", ", ", routing_of(c),
             " routing, ", dtype_name(c.dtype));
}

struct Result {
  std::string implementation, text;  // how it runs, or why it does not
  bool ran = false, picked = false;  // picked: what `auto` takes
  LayerTiming timing;
};

std::string json_line(const LayerCase& c, const Result& r, int num_threads) {
  io::Json line;
  line.set("shape", c.shape.name);
  line.set("tokens", c.tokens);
  line.set("mode", mode_of(c));
  line.set("routing", routing_of(c));
  line.set("rank", c.mode == LayerMode::kLora ? c.lora_rank : std::int64_t{0});
  line.set("dtype", std::string(dtype_name(c.dtype)));
  line.set("device", "cpu");
  line.set("threads", std::int64_t{num_threads});
  line.set("implementation", r.implementation);
  line.set("auto_takes_it", r.picked);
  line.set(r.ran ? "plan" : "refusal", r.text);
  if (r.ran) {
    line.set("ms", r.timing.ms);
    line.set("ms_p10", r.timing.ms_p10);
    line.set("ms_p90", r.timing.ms_p90);
    line.set("gflops", c.flops() / r.timing.ms * 1e-6);
    line.set("share_of_dense", r.timing.share_of_dense);
    line.set("saved_bytes", r.timing.saved_bytes);
    line.set("scratch_bytes", r.timing.scratch_bytes);
    line.set("repeats", std::int64_t{r.timing.repeats});
  }
  return line.dump();
}

std::vector<std::string> row(const LayerCase& c, const Result& r) {
  const std::string name = r.implementation + (r.picked ? " *" : "");
  if (!r.ran) return {name, "", "", "", "", "", "", "refuses: " + r.text};
  return {name,
          fixed(r.timing.ms, 3),
          fixed(r.timing.ms_p10, 3),
          fixed(r.timing.ms_p90, 3),
          fixed(c.flops() / r.timing.ms * 1e-6, 1),
          fixed(100 * r.timing.share_of_dense, 1) + " %",
          human_bytes(static_cast<double>(r.timing.saved_bytes)),
          r.text};
}

int run(const Arguments& arguments) {
  if (arguments.config_file != "experts") {
    throw Error(
        ErrorCode::kInvalidInput,
        str("bench: got ", arguments.config_file.empty() ? "nothing" : arguments.config_file,
            ", expected moesmith bench experts"));
  }
  if (!arguments.overrides.empty()) {
    throw Error(ErrorCode::kInvalidInput, str("bench: ", arguments.overrides[0].flag,
                                              " is a key of a configuration, expected "
                                              "an option of bench; see moesmith bench --help"));
  }
  const std::vector<LayerCase> cases = cases_of(arguments);
  const double seconds = number("seconds", option(arguments, "seconds", "1"), 0, 3600);
  const std::string wanted = option(arguments, "implementation", "all");
  ThreadPool pool(static_cast<int>(whole("threads", option(arguments, "threads", "0"), 0, 1024)));
  const bool json = arguments.has("json");
  for (const LayerCase& c : cases) {
    const std::string picked(experts::plan_experts(c.request("auto")).implementation());
    if (wanted != "all") static_cast<void>(experts::plan_experts(c.request(wanted)));
    std::vector<std::vector<std::string>> rows = {
        {"implementation", "ms", "p10", "p90", "GFLOP/s", "of dense", "saved", ""}};
    for (const experts::Verdict& verdict : experts::explain_experts(c.request("auto"))) {
      if (wanted != "all" && wanted != verdict.name &&
          !(wanted == "auto" && verdict.name == picked)) {
        continue;
      }
      Result result{verdict.name, verdict.text, verdict.accepted, verdict.name == picked, {}};
      set_status(str("timing ", verdict.name));
      if (verdict.accepted) {
        result.timing =
            time_layer(c, experts::plan_experts(c.request(verdict.name)), seconds, pool);
      }
      set_status("");
      if (json) {
        print_line(json_line(c, result, pool.num_threads()));
      } else {
        rows.push_back(row(c, result));
      }
    }
    if (json) continue;
    print_line(bold(title(c)));
    for (const std::string& line :
         aligned(rows, {false, true, true, true, true, true, true, false})) {
      print_line("  " + line);
    }
  }
  return kDone;
}

}  // namespace

Command bench_command() {
  return {
      "bench",
      "Times the experts layer's implementations on this CPU.",
      "Random data, weights that do not fit the last cache; by turns with dense products of the "
      "same FLOPs,\n"
      "6 T K H I forward, twice that with frozen weights, three times with trained ones. An "
      "asterisk marks\n"
      "what `auto` takes. Lists are separated by commas. On a GPU the layer is timed by "
      "experts_cuda_bench,\n"
      "a program of the developer's build (docs/cuda.md).",
      false,
      false,
      {{"shape", "NAME,..",
        "tiny, qwen3-30b-a3b (default), olmoe-1b-7b, mixtral-8x7b, "
        "qwen3-next-80b"},
       {"tokens", "N,..", "tokens of a call; 64"},
       {"mode", "MODE,..", "forward, lora (default) or full: which gradients"},
       {"routing", "WAY,..", "uniform (default) or skewed"},
       {"implementation", "NAME", "one, auto, or all (default)"},
       {"rank", "R", "of LoRA; 16"},
       {"dtype", "TYPE", "bf16 (default) or f32"},
       {"threads", "N", "0 (default): as many as the process may use"},
       {"seconds", "S", "to spend on each implementation, at least; 1"},
       {"json", "", "one JSON object a line instead of tables"}},
      run,
      "experts"};
}

}  // namespace moesmith::cli
