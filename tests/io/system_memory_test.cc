// SPDX-License-Identifier: Apache-2.0
#include "io/system_memory.h"

#include <gtest/gtest.h>

#include <vector>

#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "temp_dir.h"

namespace moesmith::io {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

class Memory : public testing::Test {
 protected:
  void put(const std::string& path, const std::string& content) {
    make_directories(dir_ / path.substr(0, path.rfind('/')));
    write_file(dir_ / path, content);
  }
  void SetUp() override {
    put("proc/meminfo", "MemTotal:        1048576 kB\nMemFree:  1 kB\nMemAvailable:  819200 kB\n");
  }
  SystemMemory read() { return system_memory(dir_.path()); }
  TempDir dir_;
};

TEST_F(Memory, reads_the_machine) {
  const SystemMemory memory = read();
  EXPECT_EQ(memory.total, 1024 * kMiB);
  EXPECT_EQ(memory.available, 800 * kMiB);
  EXPECT_FALSE(memory.cgroup_limit);
  EXPECT_EQ(memory.usable(), 800 * kMiB);
}

TEST_F(Memory, takes_the_tightest_group_of_version_2) {
  put("proc/self/cgroup", "0::/outer/inner\n");
  put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  put("sys/fs/cgroup/outer/memory.max", std::to_string(500 * kMiB) + "\n");
  put("sys/fs/cgroup/outer/memory.current", std::to_string(300 * kMiB) + "\n");
  put("sys/fs/cgroup/outer/memory.stat",
      "anon 5\nfile 7\ninactive_file " + std::to_string(100 * kMiB) + "\n");
  const SystemMemory memory = read();
  EXPECT_EQ(memory.cgroup_limit, 500 * kMiB);
  EXPECT_EQ(memory.cgroup_used, 200 * kMiB);
  EXPECT_EQ(memory.usable(), 300 * kMiB);
}

TEST_F(Memory, reads_the_mount_of_a_container) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/memory.max", std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(read().usable(), 100 * kMiB);
}

TEST_F(Memory, reads_version_1) {
  put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n");
  put("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", std::to_string(200 * kMiB) + "\n");
  put("sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", std::to_string(50 * kMiB) + "\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const SystemMemory memory = read();
  EXPECT_EQ(memory.cgroup_limit, 200 * kMiB);
  EXPECT_EQ(memory.usable(), 150 * kMiB);
}

TEST_F(Memory, a_group_over_its_limit_has_nothing_left) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/memory.max", "1000\n");
  put("sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(read().usable(), 0);
}

TEST_F(Memory, refuses_a_system_that_does_not_say) {
  put("proc/meminfo", "nothing\n");
  EXPECT_ERROR(read(), ErrorCode::kIo, "has no line MemTotal");
  EXPECT_ERROR(system_memory(dir_ / "none"), ErrorCode::kIo, "meminfo");
}

TEST(memory, of_this_process_grows_with_what_it_touches) {
  const std::int64_t before = current_rss();
  std::vector<char> block(static_cast<std::size_t>(64 * kMiB), 1);
  EXPECT_GT(current_rss(), before + 32 * kMiB) << static_cast<int>(block[12345]);
  EXPECT_GE(peak_rss() + kMiB, current_rss());
  EXPECT_GT(system_memory().total, 64 * kMiB);
  EXPECT_GT(system_memory().usable(), 0);
}

}  // namespace
}  // namespace moesmith::io
