#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point one way: each module of src/ may include only the modules listed for it. Exits 1 naming each breach."""
import pathlib
import re
import sys

BELOW = {
    "core": set(),
    "cuda": {"core"},
    "io": {"core"},
    "config": {"core"},  # and the options.h of any module
    "text": {"core", "io"},
    "kernels": {"core", "cuda"},
    "comm": {"core", "cuda"},
    "experts": {"core", "cuda", "kernels", "comm"},
    "c_api": {"core", "cuda", "experts"},
    "model": {"core", "cuda", "kernels", "comm", "experts", "io"},
    "train": {"core", "cuda", "kernels", "comm", "experts", "io", "text", "model"},
    "cli": {"core", "cuda", "kernels", "comm", "experts", "io", "text", "model", "train", "config"},
}
# A heavy header stays behind one file of ours.
ONLY_IN = {"yaml-cpp": "config", "pcre2": "text", "utf8proc": "text", "dnnl": "experts"}


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    breaches = []
    for path in sorted([*(root / "src").rglob("*"), *(root / "include").rglob("*")]):
        if path.suffix not in (".h", ".cc", ".cu", ".cuh"):
            continue
        parts = path.relative_to(root).parts
        module = parts[1] if parts[0] == "src" else "include"
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#include\s+[<"]([^>"]+)[>"]', line)
            if not found:
                continue
            target = found[1]
            first = target.split("/")[0]
            allowed = BELOW.get(module, set()) | {module}
            if first in BELOW and first not in allowed and not (module == "config" and target.endswith("/options.h")):
                breaches.append(f"{path}:{number}: {module} must not include {target}")
            for library, owner in ONLY_IN.items():
                if target.startswith(library) and module != owner:
                    breaches.append(f"{path}:{number}: only {owner} may include {target}")
                elif target.startswith(library) and path.suffix == ".h":
                    breaches.append(f"{path}:{number}: a header of ours must not bring in {target}")
    print("\n".join(breaches) or "layers: every include points down")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
