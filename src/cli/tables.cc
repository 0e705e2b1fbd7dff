// SPDX-License-Identifier: Apache-2.0
// Tables as text.
#include "cli/tables.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "cli/progress.h"
#include "cli/terminal.h"
#include "core/text.h"
#include "train/memory.h"

namespace moesmith::cli {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct LayerName {
  std::string before, after;  // around the layer's number
  std::int64_t layer = -1;    // -1: not in a layer
};

// "base_model.model.model.layers.3.mlp.x.lora_A.weight" -> "layers." 3 ".mlp.x.lora_A"
LayerName split_name(std::string name) {
  for (const std::string_view prefix : {"base_model.model.", "model."}) {
    if (name.rfind(prefix, 0) == 0) {
      name.erase(0, prefix.size());
    }
  }
  for (const std::string_view factor : {".lora_A.weight", ".lora_B.weight"}) {
    if (name.size() > factor.size() && name.ends_with(factor)) {
      name.resize(name.size() - std::string_view(".weight").size());
    }
  }
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    std::size_t end = dot + 1;
    while (end < name.size() && is_digit(name[end])) {
      ++end;
    }
    if (end > dot + 1 && end - dot < 10 && (end == name.size() || name[end] == '.')) {
      return {name.substr(0, dot + 1), name.substr(end),
              std::stoll(name.substr(dot + 1, end - dot - 1))};
    }
  }
  return {name, "", -1};
}

// "{0-3,5}"; a single number without braces.
std::string ranges(std::vector<std::int64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  std::string out;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) {
      ++last;
    }
    out += str(out.empty() ? "" : ",", numbers[i]);
    out += last > i ? str("-", numbers[last]) : "";
    i = last + 1;
  }
  return numbers.size() > 1 ? "{" + out + "}" : out;
}

}  // namespace

std::vector<std::string> aligned(const std::vector<std::vector<std::string>>& rows,
                                 const std::vector<bool>& right) {
  std::vector<int> widths(right.size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], columns(row[i]));
    }
  }
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string gap(static_cast<std::size_t>(widths[i] - columns(row[i])), ' ');
      line += (i == 0 ? "  " : "   ") + (right[i] ? gap + row[i] : row[i] + gap);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> trained_table(const std::vector<train::TrainedTensor>& tensors) {
  struct Group {
    LayerName name;
    Shape shape;
    std::vector<std::int64_t> layers;
    std::int64_t tensors = 0, count = 0;
  };
  std::vector<Group> groups;
  std::int64_t total = 0;
  for (const train::TrainedTensor& tensor : tensors) {
    const LayerName name = split_name(tensor.name);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.name.before == name.before && g.name.after == name.after &&
             g.shape == tensor.shape && (g.name.layer < 0) == (name.layer < 0);
    });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {name, tensor.shape, {}, 0, 0});
    }
    group->layers.push_back(name.layer);
    ++group->tensors;
    group->count += tensor.count;
    total += tensor.count;
  }
  std::vector<std::vector<std::string>> rows = {
      {"trained tensor", "shape", "tensors", "parameters"}};
  for (const Group& group : groups) {
    const std::string layers = group.name.layer < 0 ? "" : ranges(group.layers);
    rows.push_back({group.name.before + layers + group.name.after, to_string(group.shape),
                    count_text(group.tensors), count_text(group.count)});
  }
  rows.push_back(
      {"all", "", count_text(static_cast<std::int64_t>(tensors.size())), count_text(total)});
  return aligned(rows, {false, false, true, true});
}

std::vector<std::string> profile_table(const std::vector<train::ProfilePart>& parts,
                                       std::int64_t steps) {
  const auto fixed = [](double value, int digits) {
    std::array<char, 64> buffer;
    std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
    return std::string(buffer.data());
  };
  std::vector<std::vector<std::string>> rows = {
      {str("time of a step, mean of ", count_text(steps)), "seconds", "share", "GFLOP/s"}};
  double seconds = 0.0, share = 0.0;
  for (const train::ProfilePart& part : parts) {
    rows.push_back({part.name, fixed(part.seconds, 4), fixed(100 * part.share, 1) + " %",
                    part.gflops ? fixed(*part.gflops, 0) : ""});
    seconds += part.seconds;
    share += part.share;
  }
  rows.push_back({"all", fixed(seconds, 4), fixed(100 * share, 1) + " %", ""});
  return aligned(rows, {false, true, true, true});
}

std::vector<std::string> memory_table(const train::MemoryPlan& plan) {
  std::vector<std::vector<std::string>> rows = {{"memory", "", ""}};
  for (const train::MemoryItem& item : plan.items) {
    if (item.bytes == 0) {
      continue;
    }
    rows.push_back({item.name, human_bytes(static_cast<double>(item.bytes)),
                    item.counted ? "" : "not counted: the system may drop and read them again"});
  }
  rows.push_back(
      {"peak", human_bytes(static_cast<double>(plan.peak_bytes)),
       str("of ", human_bytes(static_cast<double>(plan.available_bytes)), " available")});
  std::vector<std::string> lines = aligned(rows, {false, true, false});
  if (const std::string text = train::packing_text(plan); !text.empty())
    lines.push_back("  " + text);
  return lines;
}

}  // namespace moesmith::cli
