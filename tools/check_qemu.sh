#!/usr/bin/env bash
# The unit tests on processors that this machine is not: an x86-64 of 2008 (no AVX), and aarch64.
#   tools/check_qemu.sh [x86|arm]
# The aarch64 build takes its libraries from Debian's arm64 packages, unpacked under build/: nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
which=${1:-all}
# Emulation is 10 to 50 times slower: these folders hold the code that differs by processor.
folders=${QEMU_FOLDERS:-core io text kernels experts}
skip='-*_slow*'

# Of the experts the implementations with kernels of their own, on the cases that walk layouts, activations, adapters
# and remainders: half a minute of emulation.
filter_of() {  # filter_of FOLDER
  if [ "$1" != experts ]; then
    echo '*'
    return
  fi
  local filter='own_kernels/remainders.*' name group
  for name in scattermoe batched_mm; do
    for group in layout act lora; do filter+=":table/conformance.*/${name}_${group}*"; done
  done
  echo "$filter"
}

run_tests() {  # run_tests BUILD_DIR qemu-command...
  local build=$1 folder
  shift
  for folder in $folders; do
    [ -x "$build/tests/test_$folder" ] || continue
    echo "-- test_$folder under $*"
    "$@" "$build/tests/test_$folder" --gtest_brief=1 --gtest_filter="${QEMU_FILTER:-$(filter_of "$folder")}$skip"
  done
}

targets() { for folder in $folders; do echo "test_$folder"; done; }

old_x86() {
  cmake --preset dev >/dev/null
  # shellcheck disable=SC2046 # one word a target
  cmake --build build/dev --target $(targets)
  run_tests build/dev qemu-x86_64 -cpu Nehalem
}

arm_packages() {
  local root=$PWD/build/arm64-sysroot state=$PWD/build/arm64-apt
  [ -e "$root/.complete" ] && return
  mkdir -p "$root" "$state/lists/partial" "$state/archives/partial"
  local apt=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$state/lists"
             -o Dir::Cache="$state" -o Debug::NoLocking=1)
  apt-get "${apt[@]}" update -qq
  (cd "$state/archives" && apt-get "${apt[@]}" download -qq libyaml-cpp-dev libyaml-cpp0.7 libpcre2-dev libpcre2-8-0 \
    libutf8proc-dev libutf8proc2 libgtest-dev libgmock-dev 2>/dev/null)
  for deb in "$state"/archives/*.deb; do dpkg -x "$deb" "$root"; done
  touch "$root/.complete"
}

arm() {
  arm_packages
  local root=$PWD/build/arm64-sysroot
  cmake -S . -B build/arm64 -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOESMITH_DEVELOPER=ON -DMOESMITH_ONEDNN=OFF \
    -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" \
    -DMOESMITH_SYSROOT="$root" >/dev/null
  # shellcheck disable=SC2046
  cmake --build build/arm64 --target $(targets)
  run_tests build/arm64 qemu-aarch64 -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$root/usr/lib/aarch64-linux-gnu"
}

[ "$which" = arm ] || old_x86
[ "$which" = x86 ] || arm
