#!/usr/bin/env bash
# Makes the shipped checkpoint again: tokenizer, then weights, from the corpus beside this script.
#   examples/austen/pretrain.sh [OUTPUT_FOLDER] [--key value ...]      (outputs/austen-pretrain)
# Then says what it is worth on the held-out chapters, beside an n-gram model and xz.
set -euo pipefail
cd "$(dirname "$0")/../.."
output=outputs/austen-pretrain
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  output=$1
  shift
fi
corpus=examples/austen/corpus

cmake --preset dev >/dev/null
cmake --build build/dev --target moesmith moesmith_train_tokenizer ngram_baseline held_out >/dev/null
mkdir -p "$output/start"
cp examples/austen/model/config.json "$output/start/"
build/dev/tools/moesmith_train_tokenizer "$corpus/train.jsonl" --vocab-size 4096 --output "$output/start"
build/dev/src/cli/moesmith train examples/austen/pretrain.yml --base-model "$output/start" \
  --output-dir "$output/model" "$@"

build/dev/tools/held_out "$output/model" "$corpus/train.jsonl" "$corpus/valid.jsonl"
build/dev/tools/ngram_baseline "$corpus/train.jsonl" "$corpus/valid.jsonl" "$output/model"
# What xz needs for the held-out text once it has seen the rest.
both=$(cat "$corpus/train.jsonl" "$corpus/valid.jsonl" | xz -9e | wc -c)
seen=$(xz -9e <"$corpus/train.jsonl" | wc -c)
bytes=$(wc -c <"$corpus/valid.jsonl")
awk -v both="$both" -v seen="$seen" -v bytes="$bytes" \
  'BEGIN { printf "xz -9e:             %.4f bits per byte\n", (both - seen) * 8 / bytes }'
