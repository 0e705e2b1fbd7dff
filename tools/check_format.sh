#!/usr/bin/env bash
# The formatter decides all: fails naming the files that clang-format 14 would change. --fix changes them.
set -euo pipefail
cd "$(dirname "$0")/.."
format=$(command -v clang-format-14 || command -v clang-format)
case "$("$format" --version)" in *" 14."*) ;; *) echo "check_format: needs clang-format 14" >&2; exit 1 ;; esac
mode=(--dry-run --Werror)
[ "${1:-}" = --fix ] && mode=(-i)
find include src tests tools bench examples \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 "$format" "${mode[@]}"
echo "format: as clang-format 14 writes it"
