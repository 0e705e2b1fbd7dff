#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whole LoRA steps, ours by implementation and transformers + PEFT by turns on the same cores: of a 4-layer slice of
# Qwen3-30B-A3B and of the quickstart's model. Appends JSON lines to bench/results/<machine>/train_step.jsonl.
#   MOESMITH_PYTHON=python-with-torch bench/train_step.sh MACHINE [rounds] [layers]
# BUILD names another build folder than build/dev.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/dev} machine=${1:?usage: bench/train_step.sh MACHINE [rounds] [layers]} rounds=${2:-2} layers=${3:-4}
bench=$build/bench/train_step_bench
[ -x "$bench" ] || {
  echo "train_step.sh: build it first: cmake --preset dev && cmake --build $build --target train_step_bench" >&2
  exit 2
}
out=bench/results/$machine/train_step.jsonl
mkdir -p "$(dirname "$out")"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
# An image may cap OpenBLAS for old programs; a peer must not be slowed by that.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

turn() { "$@" | sed "s/}\$/, \"commit\": \"$commit\"}/" | tee -a "$out"; }

slice=build/bench/slice$layers
mkdir -p build/bench
for _ in $(seq "$rounds"); do
  turn "$bench" --model "$slice" --layers "$layers" --tokens 1024 --implementation scattermoe,scattermoe+packed,grouped_mm --steps 3
  turn "$bench" --model examples/austen/model --tokens 2048 --segments 4 --implementation scattermoe,scattermoe+packed,grouped_mm --steps 20
  if [ -n "${MOESMITH_PYTHON:-}" ]; then
    turn "$MOESMITH_PYTHON" bench/peers/hf_train_step.py --model "$slice" --tokens 1024 --steps 2 2>/dev/null
    turn "$MOESMITH_PYTHON" bench/peers/hf_train_step.py --model examples/austen/model --tokens 2048 --segments 4 --steps 10 2>/dev/null
  fi
done
# The readable reference needs minutes at the slice's size: fewer tokens, once.
turn "$bench" --model "$slice" --tokens 32 --implementation eager --steps 1
turn "$bench" --model examples/austen/model --tokens 2048 --segments 4 --implementation eager --steps 2
