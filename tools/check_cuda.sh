#!/usr/bin/env bash
# Every submission compiles for CUDA; no GPU is needed for that. Without nvcc there is nothing to check, and it says so.
# Where there is a GPU the tests run on it; elsewhere each skips with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nvcc >/dev/null || { echo "check_cuda: skipped, there is no nvcc"; exit 0; }
tools/deps.sh cutlass build/cutlass
cmake --preset cuda -DMOESMITH_CUTLASS="$PWD/build/cutlass" >/dev/null
cmake --build build/cuda --target test_cuda test_experts_cuda test_cli moesmith
ctest --test-dir build/cuda --output-on-failure -R '^(cuda/|experts_cuda/|cli/bench)'
