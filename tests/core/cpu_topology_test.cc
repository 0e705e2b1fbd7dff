// SPDX-License-Identifier: Apache-2.0
// Processors, quotas and nodes from files as Linux writes them; machines that are not this one.
#include "core/cpu_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/log.h"
#include "core/thread_pool.h"

namespace moesmith {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class CpuTopology : public testing::Test {
 protected:
  CpuTopology() {
    std::string pattern = (fs::temp_directory_path() / "moesmith_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    root_ = pattern;
  }
  ~CpuTopology() override {
    std::error_code error;
    fs::remove_all(root_, error);
  }
  void put(const std::string& file, const std::string& text) {
    const fs::path path = fs::path(root_) / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void put_node(int id, const std::string& cpus, std::int64_t kibibytes) {
    const std::string folder = "sys/devices/system/node/node" + std::to_string(id) + "/";
    const std::string node = "Node " + std::to_string(id);
    put(folder + "cpulist", cpus + "\n");
    put(folder + "meminfo", node + " MemTotal:       " + std::to_string(kibibytes) + " kB\n" +
                                node + " MemFree:        1 kB\n");
  }
  // Two sockets of four processors, and a node of memory alone.
  void put_two_sockets() {
    put("sys/devices/system/node/online", "0-2\n");
    put_node(0, "0-3", 1024);
    put_node(1, "4-7", 2048);
    put_node(2, "", 4096);
  }
  std::string root_;
};

TEST_F(CpuTopology, lists_of_processors_are_read) {
  EXPECT_THAT(parse_cpu_list("0-3,8,10-11\n"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(parse_cpu_list("5"), ElementsAre(5));
  for (const char* none : {"", "\n", "x", "-1", "3-1", "0-99999999999"}) {
    EXPECT_THAT(parse_cpu_list(none), testing::SizeIs(testing::Le(1u))) << none;
  }
}

TEST_F(CpuTopology, no_quota_without_files_or_with_none_set) {
  EXPECT_FALSE(cpu_quota(root_));
  put("proc/self/cgroup", "0::/user/job\n");
  put("sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
  EXPECT_FALSE(cpu_quota(root_));
  put("proc/self/cgroup", "4:cpu,cpuacct:/job\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(cpu_quota(root_));
}

TEST_F(CpuTopology, version_2_takes_the_tightest_of_group_and_parents_rounded_up) {
  put("proc/self/cgroup", "0::/user/job\n");
  put("sys/fs/cgroup/user/job/cpu.max", "350000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 4);
  put("sys/fs/cgroup/user/cpu.max", "150000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 2);
  put("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 1);
}

TEST_F(CpuTopology, a_container_sees_its_group_at_the_mount) {
  put("proc/self/cgroup", "0::/docker/not/visible/here\n");
  put("sys/fs/cgroup/cpu.max", "600000 100000\n");
  EXPECT_EQ(cpu_quota(root_), 6);
}

TEST_F(CpuTopology, version_1_is_read_under_either_name_of_the_mount) {
  put("proc/self/cgroup", "7:memory:/m\n4:cpu,cpuacct:/job\n1:name=systemd:/\n");
  put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota(root_), 3);
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota(root_), 2);
}

TEST_F(CpuTopology, threads_are_the_lesser_of_mask_and_quota) {
  EXPECT_EQ(usable_cpus(8, std::nullopt), 8);
  EXPECT_EQ(usable_cpus(8, 3), 3);
  EXPECT_EQ(usable_cpus(2, 64), 2);
  EXPECT_EQ(usable_cpus(0, std::nullopt), 1);
  EXPECT_EQ(default_num_threads(), usable_cpus(allowed_cpus().size(), cpu_quota()));
}

TEST_F(CpuTopology, nodes_have_processors_and_memory) {
  EXPECT_THAT(numa_nodes(root_), IsEmpty());
  put_two_sockets();
  const auto nodes = numa_nodes(root_);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_THAT(nodes[1].cpus, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(nodes[1].memory_bytes, 2048 * 1024);
  EXPECT_THAT(nodes[2].cpus, IsEmpty());
}

TEST_F(CpuTopology, memory_is_spread_over_the_nodes_that_are_used) {
  put_two_sockets();
  const auto nodes = numa_nodes(root_);
  const std::vector<int> all = {0, 1, 2, 3, 4, 5, 6, 7}, one_socket = {4, 5};
  EXPECT_THAT(nodes_to_interleave(NumaPolicy::kAuto, nodes, all), ElementsAre(0, 1));
  EXPECT_THAT(nodes_to_interleave(NumaPolicy::kInterleave, nodes, {3, 4}), ElementsAre(0, 1));
  EXPECT_THAT(nodes_to_interleave(NumaPolicy::kLocal, nodes, all), IsEmpty());
  EXPECT_THAT(nodes_to_interleave(NumaPolicy::kAuto, nodes, one_socket), IsEmpty());
  EXPECT_THAT(nodes_to_interleave(NumaPolicy::kAuto, {}, all), IsEmpty());
}

// The one node there is everywhere; and one that is nowhere, which the log must tell of.
TEST_F(CpuTopology, a_refused_placement_is_logged_and_survived) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, const std::string& line) { lines.push_back(line); });
  interleave_memory({});
  EXPECT_THAT(lines, IsEmpty());
  interleave_memory({1000});
  set_log_sink(nullptr);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], testing::HasSubstr("set_mempolicy"));
}

}  // namespace
}  // namespace moesmith
