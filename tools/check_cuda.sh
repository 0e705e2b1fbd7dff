#!/usr/bin/env bash
# Every submission compiles for CUDA; no GPU is needed for that. Without nvcc there is nothing to check, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nvcc >/dev/null || { echo "check_cuda: skipped, there is no nvcc"; exit 0; }
cmake --preset cuda >/dev/null
cmake --build build/cuda --target moesmith_cuda test_cuda
ctest --test-dir build/cuda --output-on-failure -R '^cuda/'
