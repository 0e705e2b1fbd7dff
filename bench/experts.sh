#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The experts layer at real models' sizes beside transformers + PEFT, oneDNN on packed weights and ggml: one run on one
# machine, by turns case by case. Appends JSON lines to bench/results/<machine>/experts.jsonl.
#   MOESMITH_PYTHON=python-with-torch bench/experts.sh MACHINE [--quick | --all] [--only TEXT]...
# About 25 minutes on two cores; --quick: under one, of two small cases, to build/bench. Without MOESMITH_PYTHON
# transformers has no turn, without build/peers/ggml/ggml_experts (bench/peers/ggml.sh) ggml has none. BUILD names another
# build folder than build/dev.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/dev} machine=${1:?usage: bench/experts.sh MACHINE [--quick | --all] [--only TEXT]...}
shift
out=bench/results/$machine/experts.jsonl grid=default
case "${1:-}" in
  --quick) grid=quick out=$build/bench/experts_quick.jsonl && shift && rm -f "$out" ;;
  --all) grid=all && shift ;;
esac
[ -x "$build/bench/experts_bench" ] || {
  echo "experts.sh: build it first: cmake --preset dev && cmake --build $build --target experts_bench onednn_packed_bench" >&2
  exit 2
}
programs=(--program "ours=$build/bench/experts_bench")
[ -x "$build/bench/onednn_packed_bench" ] && programs+=(--program "onednn=$build/bench/onednn_packed_bench")
[ -x build/peers/ggml/ggml_experts ] && programs+=(--program "ggml=build/peers/ggml/ggml_experts")
[ -n "${MOESMITH_PYTHON:-}" ] && programs+=(--program "transformers=$MOESMITH_PYTHON bench/peers/hf_experts.py")
mkdir -p "$(dirname "$out")"
# An image may cap OpenBLAS for old programs; a peer must not be slowed by that.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
python3 bench/experts/turns.py "$out" --grid "$grid" --commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
  "${programs[@]}" "$@"
echo "$out" >&2
