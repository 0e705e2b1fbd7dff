// SPDX-License-Identifier: Apache-2.0
// moesmith bench experts: the experts layer's implementations on this machine's CPU or a GPU, and
// what each one that does not run says.
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "cli/command.h"
#include "cli/experts_timing.h"
#include "cli/tables.h"
#include "cli/terminal.h"
#include "commit.h"
#include "core/text.h"
#include "cuda/device.h"
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

double number(const char* name, const std::string& text, std::int64_t least, std::int64_t most) {
  std::istringstream in(text);
  double value = 0;
  if (!(in >> value) || !in.eof() || value < static_cast<double>(least) ||
      value > static_cast<double>(most)) {
    wrong(name, text, str("a number from ", least, " to ", most));
  }
  return value;
}

std::int64_t whole(const char* name,
                   const std::string& text,
                   std::int64_t least,
                   std::int64_t most) {
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

// Of the GPU that was asked for, "" for the CPU. Fills in where the case runs.
std::string choose_device(const Arguments& arguments, LayerCase& c) {
  const std::string text = option(arguments, "device", "cpu");
  if (text == "cpu") return "";
  const std::string_view number =
      std::string_view(text).substr(std::min<std::size_t>(5, text.size()));
  const bool numbered = number.find_first_not_of("0123456789") == std::string_view::npos &&
                        !number.empty() && number.size() < 4;
  if (text != "cuda" && !(text.starts_with("cuda:") && numbered)) {
    wrong("device", text, "cpu, cuda or cuda:N");
  }
  c.device = experts::Device::kCuda;
  c.cuda_device = text == "cuda" ? 0 : std::stoi(std::string(number));
  const cuda::DeviceList list = cuda::list_devices();
  for (const cuda::DeviceInfo& device : list.devices) {
    if (device.index == c.cuda_device) return device.name;
  }
  wrong("device", text,
        list.devices.empty() ? str("cpu: ", list.why_empty)
                             : str("a device below ", list.devices.size()));
}

std::vector<LayerCase> cases_of(const Arguments& arguments, LayerCase c) {
  std::vector<std::string> names;
  for (const LayerShape& shape : layer_shapes()) names.push_back(shape.name);
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

// How a run was asked for, and where it takes place.
struct Run {
  std::string wanted;    // an implementation, "auto" or "all"
  std::string gpu_name;  // "": the CPU
  double seconds = 1;
  ThreadPool& pool;
  std::string why_no_dense;  // "", or why there are no dense products to compare with
};

std::string json_line(const LayerCase& c, const Result& r, const Run& run) {
  const bool cpu = run.gpu_name.empty();
  io::Json line;
  line.set("shape", c.shape.name);
  line.set("tokens", c.tokens);
  line.set("mode", mode_of(c));
  line.set("routing", routing_of(c));
  line.set("rank", c.mode == LayerMode::kLora ? c.lora_rank : std::int64_t{0});
  line.set("dtype", std::string(dtype_name(c.dtype)));
  line.set("device", cpu ? std::string("cpu") : run.gpu_name);
  if (cpu) line.set("threads", std::int64_t{run.pool.num_threads()});
  line.set("commit", MOESMITH_COMMIT);
  line.set("implementation", r.implementation);
  line.set("auto_takes_it", r.picked);
  line.set(r.ran ? "plan" : "refusal", r.text);
  if (r.ran) {
    line.set("ms", r.timing.ms);
    line.set("ms_p10", r.timing.ms_p10);
    line.set("ms_p90", r.timing.ms_p90);
    line.set("tflops", c.flops() / r.timing.ms * 1e-9);
    if (run.why_no_dense.empty()) {
      line.set("dense_ms", r.timing.dense_ms);
      line.set("share_of_dense", r.timing.share_of_dense);
    } else {
      line.set("no_dense", run.why_no_dense);
    }
    line.set("saved_bytes", r.timing.saved_bytes);
    line.set("scratch_bytes", r.timing.scratch_bytes);
    line.set("peak_bytes", r.timing.saved_bytes + r.timing.scratch_bytes);
    line.set("repeats", std::int64_t{r.timing.repeats});
    if (!cpu) line.set("graph", r.timing.as_graph);
  }
  return line.dump();
}

std::vector<std::string> row(const LayerCase& c, const Result& r, const Run& run) {
  const std::string name = r.implementation + (r.picked ? " *" : "");
  if (!r.ran) return {name, "", "", "", "", "", "", "", "refuses: " + r.text};
  const bool cpu = run.gpu_name.empty();
  return {name,
          fixed(r.timing.ms, 3),
          fixed(r.timing.ms_p10, 3),
          fixed(r.timing.ms_p90, 3),
          fixed(c.flops() / r.timing.ms * (cpu ? 1e-6 : 1e-9), 1),
          run.why_no_dense.empty() ? fixed(100 * r.timing.share_of_dense, 1) + " %" : "",
          human_bytes(static_cast<double>(r.timing.saved_bytes)),
          human_bytes(static_cast<double>(r.timing.saved_bytes + r.timing.scratch_bytes)),
          r.text};
}

// The implementations that were asked for, those that accept not yet timed.
std::vector<Result> results_for(const LayerCase& c, const std::string& wanted) {
  std::string picked;
  const std::vector<experts::Verdict> verdicts = experts::explain_experts(c.request("auto"));
  for (const experts::Verdict& verdict : verdicts) {
    if (!verdict.accepted) continue;
    picked = experts::plan_experts(c.request("auto")).implementation();
    break;
  }
  if (wanted != "all") static_cast<void>(experts::plan_experts(c.request(wanted)));
  std::vector<Result> results;
  for (const experts::Verdict& verdict : verdicts) {
    const bool asked =
        wanted == "all" || wanted == verdict.name || (wanted == "auto" && verdict.name == picked);
    if (!asked) continue;
    results.push_back({verdict.name, verdict.text, verdict.accepted, verdict.name == picked, {}});
  }
  return results;
}

void time_on_cuda(const LayerCase& c, std::vector<Result>& results, Run& run) {
  std::vector<experts::ExpertsPlan> plans;
  for (const Result& one : results) {
    if (one.ran) plans.push_back(experts::plan_experts(c.request(one.implementation)));
  }
  set_status("timing " + run.gpu_name);
  const CudaTimings timings = time_layer_on_cuda(c, plans, run.seconds);
  set_status("");
  run.why_no_dense = timings.why_no_dense;
  auto timed = timings.of_plans.begin();
  for (Result& one : results) {
    if (!one.ran) continue;
    one.timing = timed->timing;
    if (!timed->why_not.empty()) one.ran = false, one.text = timed->why_not;
    ++timed;
  }
}

void print_table(const LayerCase& c, const std::vector<Result>& results, const Run& run) {
  std::vector<std::vector<std::string>> rows = {{"implementation", "ms", "p10", "p90",
                                                 run.gpu_name.empty() ? "GFLOP/s" : "TFLOP/s",
                                                 "of dense", "saved", "peak", ""}};
  for (const Result& one : results) rows.push_back(row(c, one, run));
  print_line(bold(title(c) + (run.gpu_name.empty() ? "" : ", " + run.gpu_name)));
  for (const std::string& line :
       aligned(rows, {false, true, true, true, true, true, true, true, false})) {
    print_line("  " + line);
  }
  if (!run.why_no_dense.empty()) {
    print_line("  no dense products to compare with: " + run.why_no_dense);
  }
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
  LayerCase where;
  const std::string gpu_name = choose_device(arguments, where);
  const std::vector<LayerCase> cases = cases_of(arguments, where);
  const double seconds = number("seconds", option(arguments, "seconds", "1"), 0, 3600);
  ThreadPool pool(static_cast<int>(whole("threads", option(arguments, "threads", "0"), 0, 1024)));
  Run run{option(arguments, "implementation", "all"), gpu_name, seconds, pool, ""};
  for (const LayerCase& c : cases) {
    std::vector<Result> results = results_for(c, run.wanted);
    if (!gpu_name.empty()) {
      time_on_cuda(c, results, run);
    } else {
      for (Result& one : results) {
        if (!one.ran) continue;
        set_status(str("timing ", one.implementation));
        one.timing =
            time_layer(c, experts::plan_experts(c.request(one.implementation)), run.seconds, pool);
        set_status("");
      }
    }
    if (!arguments.has("json")) {
      print_table(c, results, run);
      continue;
    }
    for (const Result& one : results) print_line(json_line(c, one, run));
  }
  return kDone;
}

}  // namespace

Command bench_command() {
  return {
      "bench",
      "Times the experts layer's implementations on this CPU or a GPU.",
      "Random data, weights that do not fit the last cache; by turns with dense products of the "
      "same FLOPs,\n"
      "6 T K H I forward, twice that with frozen weights, three times with trained ones: our own "
      "on the CPU,\n"
      "cuBLAS's on a GPU, where a call is a CUDA graph unless its plan waits for the device. An "
      "asterisk marks\n"
      "what `auto` takes; the peak is what a call holds beside inputs and results. Lists are "
      "separated by commas.",
      false,
      false,
      {{"shape", "NAME,..",
        "tiny, qwen3-30b-a3b (default), olmoe-1b-7b, mixtral-8x7b, "
        "qwen3-next-80b, gpt-oss-20b, deepseek-v3"},
       {"device", "WHERE", "cpu (default), cuda or cuda:N"},
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
