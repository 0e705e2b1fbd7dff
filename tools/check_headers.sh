#!/usr/bin/env bash
# Every header compiles on its own: it includes what it uses. The first one that does not is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
cxx=${CXX:-g++}
check() {
  "$cxx" -std=c++20 -fsyntax-only -Iinclude -Isrc -Wall -Wextra -x c++ "$1" -Wno-pragma-once-outside-header || {
    echo "check_headers: $1 does not compile on its own" >&2
    return 1
  }
}
export -f check
export cxx
# Bodies that are compiled once per instruction set (-inl.h) are not headers of their own.
find include src -name '*.h' ! -name '*-inl.h' -print0 | xargs -0 -n 1 -P "$(nproc)" bash -c 'check "$0"'
gcc -std=c99 -pedantic-errors -fsyntax-only -Wall -Wextra -x c include/moesmith/c_api.h
echo "headers: every one compiles on its own"
