// SPDX-License-Identifier: Apache-2.0
// Which processors this process may use, for how much of their time, and beside which memory they
// stand. `root` stands before /proc and /sys (tests).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moesmith {

// "0-3,8" -> 0 1 2 3 8; what is no list of numbers ends it.
std::vector<int> parse_cpu_list(std::string_view text);

// Processors in the affinity mask; never empty.
std::vector<int> allowed_cpus();

// Processors' worth of time that the control group grants, rounded up: the tightest of this
// process's group and its parents, version 1 or 2. Nothing: no quota.
std::optional<int> cpu_quota(const std::string& root = "");

// The lesser of the two, at least 1.
int usable_cpus(std::size_t num_allowed, std::optional<int> quota);

// A socket, or a part of one, with memory of its own.
struct NumaNode {
  int id = 0;
  std::vector<int> cpus;
  std::int64_t memory_bytes = 0;
};
// Empty where the system does not say.
std::vector<NumaNode> numa_nodes(const std::string& root = "");

// Where memory is placed on a machine with several nodes. Any thread may run any task, so a page
// has no thread that it belongs to: kInterleave spreads pages evenly over the nodes whose
// processors are used, so that each node's memory serves its share. kLocal leaves them with the
// thread that touches them first. kAuto: kInterleave.
enum class NumaPolicy { kAuto, kInterleave, kLocal };

// Nodes to interleave over: those that have memory and a processor in `cpus`; empty when there are
// fewer than two, or for kLocal.
std::vector<int> nodes_to_interleave(NumaPolicy policy,
                                     const std::vector<NumaNode>& nodes,
                                     const std::vector<int>& cpus);

// Pages that the calling thread, and threads that it starts from now on, touch first come from
// `nodes` in turn, pages of mapped files included; those that lie somewhere already stay. Does
// nothing for an empty list. A system that refuses is told of in the log; the run goes on.
void interleave_memory(const std::vector<int>& nodes);

}  // namespace moesmith
