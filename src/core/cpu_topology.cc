// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_topology.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/log.h"
#include "core/text.h"

namespace moesmith {
namespace {

// linux/mempolicy.h; libnuma would be a dependency for one call.
constexpr int kMpolInterleave = 3;

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

std::optional<double> read_number(const std::string& path) {
  std::ifstream in(path);
  double value = 0;
  if (!(in >> value)) return std::nullopt;
  return value;
}

// Processors of time that the group in `folder` grants.
std::optional<double> granted_v2(const std::string& folder) {
  std::ifstream in(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return std::nullopt;
  double time = 0;
  if (!(std::istringstream(quota) >> time) || time <= 0) return std::nullopt;
  return time / period;
}
std::optional<double> granted_v1(const std::string& folder) {
  const auto quota = read_number(folder + "/cpu.cfs_quota_us");  // -1: none
  const auto period = read_number(folder + "/cpu.cfs_period_us");
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return *quota / *period;
}

// The least of the group and its parents up to the mount. Inside a container the path of
// /proc/self/cgroup may not exist under the mount; the mount itself is then the container's group.
template <class Granted>
void consider_path(const std::string& mount,
                   std::string group,
                   const Granted& granted,
                   std::optional<double>& least) {
  for (;;) {
    if (const auto value = granted(mount + group)) {
      least = std::min(least.value_or(*value), *value);
    }
    if (group.empty()) return;
    const std::size_t slash = group.rfind('/');
    group.erase(slash == std::string::npos ? 0 : slash);
  }
}

}  // namespace

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&]() -> std::optional<int> {
    int value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value < 0) return std::nullopt;
    at = next;
    return value;
  };
  for (;;) {
    const auto first = number();
    if (!first) return cpus;
    std::optional<int> last = first;
    if (at != end && *at == '-') {
      ++at;
      last = number();
      constexpr int kMostCpus = 1 << 20;  // more is no list of processors
      if (!last || *last < *first || *last > kMostCpus) return cpus;
    }
    for (int cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
    if (at == end || *at != ',') return cpus;
    ++at;
  }
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  // The kernel refuses a mask that is shorter than its own.
  for (std::size_t count = 1024; count <= (std::size_t{1} << 20); count *= 2) {
    cpu_set_t* mask = CPU_ALLOC(count);
    if (mask == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(count);
    const bool done = sched_getaffinity(0, bytes, mask) == 0;
    const bool longer = !done && errno == EINVAL;
    for (std::size_t i = 0; done && i < count; ++i) {
      if (CPU_ISSET_S(i, bytes, mask)) cpus.push_back(static_cast<int>(i));
    }
    CPU_FREE(mask);
    if (!longer) break;
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

std::optional<int> cpu_quota(const std::string& root) {
  std::optional<double> least;
  // Lines of /proc/self/cgroup: "0::/path" (version 2) or "4:cpu,cpuacct:/path" (version 1).
  std::istringstream lines(read_text(root + "/proc/self/cgroup").value_or(""));
  std::string line;
  const std::string mount = root + "/sys/fs/cgroup";
  while (std::getline(lines, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers == ",,") {
      consider_path(mount, group, granted_v2, least);
    } else if (controllers.find(",cpu,") != std::string::npos) {
      consider_path(mount + "/cpu", group, granted_v1, least);
      consider_path(mount + "/cpu,cpuacct", group, granted_v1, least);
    }
  }
  if (!least) return std::nullopt;
  return static_cast<int>(std::clamp(std::ceil(*least), 1.0, 1e6));
}

int usable_cpus(std::size_t num_allowed, std::optional<int> quota) {
  const int allowed = std::max(1, static_cast<int>(num_allowed));
  return quota ? std::clamp(*quota, 1, allowed) : allowed;
}

std::vector<NumaNode> numa_nodes(const std::string& root) {
  const std::string folder = root + "/sys/devices/system/node/";
  std::vector<NumaNode> nodes;
  for (const int id : parse_cpu_list(read_text(folder + "online").value_or(""))) {
    const std::string node = str(folder, "node", id, "/");
    std::istringstream meminfo(read_text(node + "meminfo").value_or(""));
    std::int64_t kibibytes = 0;
    for (std::string word; meminfo >> word;) {  // "Node 0 MemTotal:  24617428 kB"
      if (word == "MemTotal:") meminfo >> kibibytes;
    }
    nodes.push_back(
        {id, parse_cpu_list(read_text(node + "cpulist").value_or("")), kibibytes * 1024});
  }
  return nodes;
}

std::vector<int> nodes_to_interleave(NumaPolicy policy,
                                     const std::vector<NumaNode>& nodes,
                                     const std::vector<int>& cpus) {
  std::vector<int> chosen;
  for (const NumaNode& node : nodes) {
    const bool used = std::any_of(node.cpus.begin(), node.cpus.end(), [&](int cpu) {
      return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end();
    });
    if (used && node.memory_bytes > 0) chosen.push_back(node.id);
  }
  if (policy == NumaPolicy::kLocal || chosen.size() < 2) chosen.clear();
  return chosen;
}

void interleave_memory(const std::vector<int>& nodes) {
  if (nodes.empty()) return;
  constexpr unsigned kBits = 8 * sizeof(unsigned long);
  const auto most = static_cast<unsigned>(*std::max_element(nodes.begin(), nodes.end()));
  std::vector<unsigned long> mask(most / kBits + 1, 0);
  for (const int node : nodes) {
    const auto n = static_cast<unsigned>(node);
    mask[n / kBits] |= 1ul << (n % kBits);
  }
  // The kernel reads one bit less than it is told of.
  if (syscall(SYS_set_mempolicy, kMpolInterleave, mask.data(), mask.size() * kBits + 1) == 0)
    return;
  log(LogLevel::kWarning,
      str("memory is not interleaved over the nodes: set_mempolicy: ", std::strerror(errno)));
}

}  // namespace moesmith
