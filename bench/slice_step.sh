#!/usr/bin/env bash
# One LoRA step of a 1-layer Qwen3-30B-A3B slice, ours and transformers + PEFT by turns on the same cores. JSON lines.
#   MOESMITH_PYTHON=python-with-torch bench/slice_step.sh [rounds] [tokens]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} tokens=${2:-1024}
python=${MOESMITH_PYTHON:-python3}
bench=build/dev/bench/train_step_bench
[ -x "$bench" ] || { echo "slice_step.sh: build it first: cmake --preset dev && cmake --build build/dev --target train_step_bench" >&2; exit 2; }
echo "{\"commit\": \"$(git rev-parse --short HEAD)\", \"cpu\": \"$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)\", \"cores\": $(nproc), \"date\": \"$(date -u +%F)\"}"
for _ in $(seq "$rounds"); do
  "$bench" auto "$tokens" 1 5
  "$bench" grouped_mm "$tokens" 1 5
  # The image may cap OpenBLAS for old programs; a peer must not be slowed by that.
  env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$python" bench/peers/hf_slice_step.py grouped_mm "$tokens" 1 5 2>/dev/null
done
