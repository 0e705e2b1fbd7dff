// SPDX-License-Identifier: Apache-2.0
// moesmith doctor: what a bug report needs to know about this machine and this build.
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "cli/command.h"
#include "cli/terminal.h"
#include "core/cpu_features.h"
#include "core/cpu_topology.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "io/system_memory.h"

namespace moesmith::cli {
namespace {

void row(std::string_view name, std::string_view text) {
  print_line(str(name, std::string(12 - name.size(), ' '), text));
}

// Value of the first line that begins with `key` up to `separator`; quotes taken off.
std::string file_value(const char* path, std::string_view key, char separator) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    const std::size_t mark = line.find(separator);
    if (mark == std::string::npos || line.rfind(key, 0) != 0) {
      continue;
    }
    const std::size_t begin = line.find_first_not_of(" \t\"", mark + 1);
    if (begin == std::string::npos) {
      return "";
    }
    return line.substr(begin, line.find_last_not_of(" \"") + 1 - begin);
  }
  return "";
}

std::string build_text() {
#if defined(__clang__)
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  return str(compiler, ", ", MOESMITH_BUILD_TYPE, ", flags \"", MOESMITH_BUILD_FLAGS, "\", ",
             MOESMITH_BUILD_ONEDNN);
}

std::string cpu_text() {
  std::string model = file_value("/proc/cpuinfo", "model name", ':');
  if (model.empty()) {
    model = file_value("/proc/cpuinfo", "CPU part", ':');
  }
  return str(model.empty() ? "unknown processor" : model, ", ", std::thread::hardware_concurrency(),
             " processors");
}

std::string isa_text() {
  const std::string detected(isa_name(detected_isa()));
  try {
    const std::string active(isa_name(active_isa()));
    return active == detected ? active
                              : str(active, " (MOESMITH_ISA; the processor has ", detected, ")");
  } catch (const Error& error) {
    return str(detected, ", but ", error.what());
  }
}

std::string threads_text() {
  const std::optional<int> quota = cpu_quota();
  return str(
      default_num_threads(), " (", allowed_cpus().size(), " processors in the affinity mask, ",
      quota ? str("quota of the control group ", *quota) : "no quota of the control group", ")");
}

std::string numa_text() {
  const std::vector<NumaNode> nodes = numa_nodes();
  if (nodes.empty()) {
    return "unknown: the system names no nodes";
  }
  std::string text = str(nodes.size(), nodes.size() == 1 ? " node: " : " nodes: ");
  for (const NumaNode& node : nodes) {
    text +=
        str(node.id == nodes.front().id ? "" : "; ", "node ", node.id, " with ", node.cpus.size(),
            " processors and ", human_bytes(static_cast<double>(node.memory_bytes)));
  }
  const std::vector<int> used = nodes_to_interleave(NumaPolicy::kAuto, nodes, allowed_cpus());
  if (!used.empty()) {
    text += str("; memory is interleaved over ", used.size(), " of them");
  }
  return text;
}

std::string memory_text() {
  const io::SystemMemory memory = io::system_memory();
  std::string text = str(human_bytes(static_cast<double>(memory.available)), " available of ",
                         human_bytes(static_cast<double>(memory.total)));
  if (memory.cgroup_limit) {
    text += str("; control group: limit ", human_bytes(static_cast<double>(*memory.cgroup_limit)));
  }
  return text;
}

std::string disk_text() {
  struct statvfs disk {};
  if (statvfs(".", &disk) != 0) {
    return str("unknown: ", std::strerror(errno));
  }
  return human_bytes(static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize)) +
         " free in the current folder";
}

std::string system_text() {
  utsname names{};
  uname(&names);
  const std::string distribution = file_value("/etc/os-release", "PRETTY_NAME", '=');
  return str(names.sysname, " ", names.release, " ", names.machine,
             distribution.empty() ? "" : ", ", distribution);
}

std::string environment_text() {
  std::string text;
  for (const char* name :
       {"MOESMITH_ISA", "HF_HOME", "HF_HUB_CACHE", "NO_COLOR", "TERM", "LC_ALL", "LANG"}) {
    if (const char* value = std::getenv(name)) {
      text += str(text.empty() ? "" : " ", name, "=", value);
    }
  }
  return text.empty() ? "none of the variables that matter is set" : text;
}

int run(const Arguments& arguments) {
  if (!arguments.config_file.empty()) {
    (void)config::load_config(arguments.config_file, arguments.overrides, config::Purpose::kTrain);
  }
  row("moesmith", MOESMITH_VERSION);
  row("build", build_text());
  row("system", system_text());
  row("cpu", cpu_text());
  row("isa", isa_text());
  row("threads", threads_text());
  row("numa", numa_text());
  row("memory", memory_text());
  row("disk", disk_text());
  row("environment", environment_text());
  if (!arguments.config_file.empty()) {
    row("config", arguments.config_file + " is valid");
  }
  return kDone;
}

}  // namespace

Command doctor_command() {
  return {"doctor",
          "Describes this machine and this build, for bug reports.",
          "Copy and paste what it prints when reporting an issue. With a configuration it checks "
          "that too.",
          false,
          true,
          {},
          run};
}

}  // namespace moesmith::cli
