#!/usr/bin/env bash
# Builds the wheel as a person does, in a fresh virtual environment, by the commands of README's section on Python; runs
# the program of that section; then the package's tests against what was installed.
#   wheel.sh [pytest arguments...]
# $MOESMITH_PYTHON names a Python that has torch, transformers, peft and pytest (`tools/deps.sh venv FOLDER` makes one):
# the fresh environment sees its packages. Skipped (77) with the reason where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${MOESMITH_PYTHON:-python3}
"$python" -c 'import torch, transformers, peft, pytest' 2>/dev/null || {
  echo "skipped: $python has no torch, transformers, peft and pytest (MOESMITH_PYTHON names another one)"
  exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
site=$("$scratch/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$python" -c 'import site; print("\n".join(site.getsitepackages()))' >"$site/underneath.pth"
export PATH="$scratch/venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=
command -v ccache >/dev/null && export CMAKE_CXX_COMPILER_LAUNCHER=ccache
unset MOESMITH_LIBRARY PYTHONPATH

section() { sed -n '/^## In transformers, PEFT and Axolotl$/,/^## /p' README.md; }
block() { section | sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" | sed '1d;$d'; }
[ "$(section | wc -l)" -le 22 ] || { echo "README's section on Python has more than 20 lines"; exit 1; }

block sh >"$scratch/install.sh"
block python >"$scratch/program.py"
[ -s "$scratch/install.sh" ] && [ -s "$scratch/program.py" ] || { echo "README's section has no commands"; exit 1; }
bash -euo pipefail "$scratch/install.sh"
"$scratch/venv/bin/python" "$scratch/program.py" | tee "$scratch/output"
grep -q 'scattermoe (' "$scratch/output"
grep -q 'fused: yes' "$scratch/output"

cat "$site"/moesmith-*.dist-info/WHEEL
grep -q '^Tag: py3-none-linux_' "$site"/moesmith-*.dist-info/WHEEL
"$scratch/venv/bin/python" - <<'CHECK'
import pathlib, moesmith
assert "venv" in moesmith.__file__, moesmith.__file__
assert pathlib.Path(moesmith.__file__).with_name("libmoesmith_c.so").is_file()
CHECK
"$scratch/venv/bin/python" -m pytest tests/python "$@"
