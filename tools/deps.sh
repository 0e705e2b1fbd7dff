#!/usr/bin/env bash
# Debian packages that Moesmith needs, and what is missing of them. Sourced by ./quickstart, ./test and .ci/run.
#
#   tools/deps.sh list build|test|ci       the names, one a line
#   tools/deps.sh missing build|test|ci    those that are not installed
#   tools/deps.sh install build|test|ci    installs the missing ones (sudo when not root)
#   tools/deps.sh cutlass FOLDER           CUTLASS's headers from PyPI, for builds with CUDA: -DMOESMITH_CUTLASS=FOLDER
#   tools/deps.sh venv FOLDER              a Python environment for the tests of the package, from tests/python/requirements.txt
set -euo pipefail

build="g++ cmake ninja-build libyaml-cpp-dev libpcre2-dev libutf8proc-dev libdnnl-dev"
test="$build ccache libgtest-dev libgmock-dev clang-format-14 python3 python3-jinja2 xz-utils procps"
ci="$test qemu-user g++-aarch64-linux-gnu python3-venv"

packages() {
  case "${1:-}" in
    build) echo "$build" ;;
    test) echo "$test" ;;
    ci) echo "$ci" ;;
    *) echo "deps.sh: expected build, test or ci, got '${1:-}'" >&2; exit 2 ;;
  esac
}

missing() {
  local name found
  for name in $(packages "$1"); do
    found=$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true)
    [ "$found" = "install ok installed" ] || echo "$name"
  done
}

install() {
  local names as_root=""
  names=$(missing "$1")
  [ -n "$names" ] || return 0
  command -v apt-get >/dev/null || {
    echo "moesmith: these packages are missing and there is no apt-get to install them:" $names >&2
    exit 1
  }
  [ "$(id -u)" = 0 ] || as_root="sudo"
  echo "Installing:" $names
  $as_root apt-get update -qq
  # shellcheck disable=SC2086 # one word a package
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $names >/dev/null
}

# Only the headers: the package would bring Python packages that nothing here uses.
cutlass() {
  local folder=$1 wheel=nvidia-cutlass==4.2.0.0 inside=cutlass_library/source/include
  [ "$(cat "$folder/wheel" 2>/dev/null)" != "$wheel" ] || return 0
  rm -rf "$folder"
  mkdir -p "$folder/unpacked"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$folder/unpacked" "$wheel"
  (cd "$folder/unpacked" && python3 -m zipfile -e ./*.whl .)
  mv "$folder/unpacked/$inside"/* "$folder"
  rm -rf "$folder/unpacked" "$folder/venv"
  echo "$wheel" >"$folder/wheel"
}

# Made anew when the list of packages changes; the stamp says for which list it was finished.
venv() {
  local folder=$1 requirements
  requirements="$(dirname "${BASH_SOURCE[0]}")/../tests/python/requirements.txt"
  cmp -s "$requirements" "$folder/requirements.txt" && return 0
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$folder/requirements.txt"
}

case "${1:-}" in
  list) packages "${2:-}" | tr ' ' '\n' ;;
  missing) missing "${2:-}" ;;
  install) install "${2:-}" ;;
  cutlass) cutlass "${2:?usage: tools/deps.sh cutlass FOLDER}" ;;
  venv) venv "${2:?usage: tools/deps.sh venv FOLDER}" ;;
  *) echo "usage: tools/deps.sh list|missing|install build|test|ci, or cutlass|venv FOLDER" >&2; exit 2 ;;
esac
