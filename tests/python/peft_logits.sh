#!/usr/bin/env bash
# Trains a few steps on the shipped checkpoint and compares the adapter's logits with PEFT's (peft_logits.py); again with
# the projections one by one, and merged. $MOESMITH_PYTHON names a Python that has torch, transformers and peft.
#   peft_logits.sh MOESMITH_BINARY DUMP_LOGITS_BINARY
set -euo pipefail
moesmith=$1 dump_logits=$2
python=${MOESMITH_PYTHON:-python3}
model=examples/austen/model
"$python" -c 'import torch, transformers, peft' 2>/dev/null || {
  echo "skipped: $python has no torch, transformers and peft (MOESMITH_PYTHON names another one)"
  exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() {  # check NAME [--key value ...]
  local name=$1
  shift
  "$moesmith" train examples/austen/lora.yml --max-steps 6 --sample-prompts '[]' \
    --output-dir "$scratch/$name" "$@" >"$scratch/$name.log" 2>&1 || { cat "$scratch/$name.log"; exit 1; }
  "$python" tests/python/peft_logits.py "$dump_logits" "$model" "$scratch/$name"
}

check both
check gate_up --lora-target-parameters '[experts.gate_up_proj]'
check down --lora-target-modules '[]' --lora-target-parameters '[experts.down_proj]'
check router_rslora --lora-target-parameters '[mlp.gate.weight, experts.down_proj]' --peft-use-rslora true \
  --lora-rank-pattern '{q_proj: 4}'
