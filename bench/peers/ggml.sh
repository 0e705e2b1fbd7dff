#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds ggml's CPU library from the sources inside llama-cpp-python's source distribution, and ggml_experts over it.
#   bench/peers/ggml.sh [build]       the developer build, build/dev by default; prints the program's path
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.3.36
build=${1:-build/dev} folder=build/peers/ggml
mkdir -p "$folder"
if ! ls "$folder"/llama_cpp_python-*.tar.gz >/dev/null 2>&1; then
  python3 -m pip download -q --no-binary :all: --no-deps "llama-cpp-python==$version" -d "$folder" >&2
fi
source_folder=$folder/llama_cpp_python-$version/vendor/llama.cpp/ggml
[ -d "$source_folder" ] || tar xf "$folder/llama_cpp_python-$version.tar.gz" -C "$folder"
# As its own users get it: native instructions, OpenMP, the llamafile products. Inside a project of ours, because the
# distribution lacks a file that ggml's own needs.
cat >"$folder/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.14)
project(ggml_peer C CXX)
add_subdirectory(llama_cpp_python-$version/vendor/llama.cpp/ggml ggml)
EOF
cmake -S "$folder" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
  -DGGML_LLAMAFILE=ON >&2
cmake --build "$folder/build" --target ggml -j "$(nproc)" >&2
g++ -O2 -std=c++20 -Wall -Wextra -Isrc -Ibench -Iinclude -I"$source_folder/include" bench/peers/ggml_experts.cc \
  -o "$folder/ggml_experts" -Wl,--start-group "$build"/bench/libmoesmith_bench{,_experts}.a \
  "$build"/src/{experts,kernels,cuda,core}/*.a $(find "$folder/build" -name '*.a') -Wl,--end-group -ldnnl -lgomp \
  -ldl -lpthread >&2
echo "$folder/ggml_experts"
