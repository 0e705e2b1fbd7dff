# SPDX-License-Identifier: Apache-2.0
"""The shared library: what it shows and loads, and how its errors arrive."""

import ctypes
import subprocess
import sys
import threading

import pytest

import moesmith
from moesmith import _library as c


def request(**values):
    r = c.sized(c.Request)
    r.implementation, r.num_experts, r.top_k, r.hidden, r.inter, r.max_tokens = (
        b"auto",
        4,
        2,
        8,
        8,
        8,
    )
    r.index_dtype = c.I64
    r.activation.gated, r.activation.alpha = 1, 1.0
    for name, value in values.items():
        setattr(r, name, value)
    return r


def test_shows_its_own_symbols_alone():
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", c.library_path()], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert len(names) >= 15
    assert [name for name in names if not name.startswith("moesmith_")] == []


def test_needs_the_system_alone():
    """No OpenMP runtime, no cuBLAS, no libcuda, no C++ runtime of another version."""
    header = subprocess.run(
        ["objdump", "-p", c.library_path()], check=True, capture_output=True, text=True
    ).stdout
    needed = {line.split()[1].split(".so")[0] for line in header.splitlines() if "NEEDED" in line}
    assert needed <= {"libc", "libm", "libpthread", "libdl", "librt", "ld-linux-x86-64",
                      "ld-linux-aarch64"}  # fmt: skip


def test_a_process_gets_no_second_openmp():
    program = (
        "import torch; before = set(open('/proc/self/maps').read().split());"
        "import moesmith; after = set(open('/proc/self/maps').read().split()) - before;"
        "new = sorted(w for w in after if '.so' in w);"
        "assert any('moesmith' in w for w in new), new;"
        "assert not any('omp' in w or 'cuda' in w or 'cublas' in w for w in new), new"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_plan_names_what_runs():
    plan = c.Plan(request(implementation=b"eager"))
    assert plan.implementation == "eager"
    assert "E=4 K=2 H=8 I=8" in plan.text
    assert plan.sizes(8, 1)[0] == 0  # nothing wants a gradient


def test_errors_carry_the_librarys_text():
    with pytest.raises(moesmith.InvalidInputError, match="num_experts: got 0, expected at least 1"):
        c.Plan(request(num_experts=0))
    with pytest.raises(ValueError):
        c.Plan(request(num_experts=0))
    with pytest.raises(moesmith.UnsupportedError, match="sonicmoe: needs a Hopper GPU"):
        c.Plan(request(implementation=b"sonicmoe"))
    with pytest.raises(moesmith.InvalidInputError, match="expected one of .*scattermoe.*auto"):
        c.Plan(request(implementation=b"fastest"))


def test_a_struct_of_another_version_is_refused():
    r = request()
    r.struct_bytes = ctypes.sizeof(c.Request) - 8
    with pytest.raises(moesmith.InvalidInputError, match="struct_bytes"):
        c.Plan(r)


def test_an_error_belongs_to_its_thread():
    seen = []
    with pytest.raises(moesmith.MoesmithError):
        c.Plan(request(num_experts=0))
    thread = threading.Thread(target=lambda: seen.append(c.lib.moesmith_last_error()))
    thread.start()
    thread.join()
    assert seen == [b""]


def test_a_missing_library_is_named(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", "import moesmith"],
        env={"MOESMITH_LIBRARY": str(tmp_path / "no.so"), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "no.so is not there" in result.stderr


def test_something_else_is_no_library(tmp_path):
    (tmp_path / "text.so").write_text("text")
    result = subprocess.run(
        [sys.executable, "-c", "import moesmith"],
        env={"MOESMITH_LIBRARY": str(tmp_path / "text.so"), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: moesmith: ") and "install the package anew" in last
