#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the lines of experts.sh into Markdown tables.

    table.py experts.jsonl [--dtype bf16] > part of bench/results/README.md

The newest line of a case and implementation counts. One table of ours (share of the roof, and how fast), one beside the
peers (ratio of the times, memory).
"""
import argparse
import json

MODES = {"forward": "forward", "lora": "LoRA forward + backward", "full": "full forward + backward"}
OURS = ("scattermoe", "scattermoe+packed", "batched_mm", "grouped_mm", "eager")


def key(line):
    return tuple(line[name] for name in ("shape", "tokens", "mode", "dtype", "routing", "isa_asked"))


def read(path):
    cases = {}
    best = None
    for text in open(path):
        line = json.loads(text)
        if line.get("bench") != "experts":
            continue
        best = best or line.get("isa")
        line["isa_asked"] = line.get("isa", best)
        cases.setdefault(key(line), {})[line["implementation"]] = line
    return cases


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def speed(line):
    if "skipped" in line:
        return "skipped"
    mark = "" if line.get("steady", True) and line.get("foreign_cpu", 0) < 0.08 else " ~"
    rate = f"{line['gbps']:.0f} GB/s" if line.get("bound") == "memory" else f"{line['gflops']:.0f} GF"
    return f"{rate}, {100 * line['share']:.0f} % ({100 * line['share_best']:.0f} %){mark}"


def ours(cases, dtype, implementation, routing="uniform"):
    """One row per shape and mode, a column per T."""
    mine = {k: v[implementation] for k, v in cases.items()
            if implementation in v and k[3] == dtype and k[4] == routing}
    isas = list(dict.fromkeys(k[5] for k in mine))
    for isa in isas:
        tokens = sorted({k[1] for k in mine if k[5] == isa})
        rows = []
        for shape, mode in dict.fromkeys((k[0], k[2]) for k in mine if k[5] == isa):
            cells = [mine.get((shape, t, mode, dtype, routing, isa)) for t in tokens]
            rows.append([shape, MODES[mode]] + [speed(c) if c else "" for c in cells])
        print(f"### `{implementation}`, {dtype}, {isa}, {routing} routing\n")
        table(["shape", "pass"] + [f"T = {t}" for t in tokens], rows)


def beside(cases, dtype):
    """Ours and everybody else on the same case, and the ratio to the best of transformers."""
    rows = []
    for k, lines in cases.items():
        theirs = {name: line for name, line in lines.items() if name.startswith("transformers") and "median_ms" in line}
        if k[3] != dtype or not theirs or "median_ms" not in lines.get("scattermoe", {}):
            continue
        mine = lines["scattermoe"]
        best = min(theirs.values(), key=lambda line: line["median_ms"])
        others = [f"{lines[name]['median_ms']:.0f} ms" if "median_ms" in lines.get(name, {}) else "" for name in
                  ("grouped_mm", "onednn packed, products only", "ggml mul_mat_id, products only")]
        name = "+".join(best["implementation"].split()[1:2])
        rows.append([k[0], str(k[1]), k[2] + ("" if k[4] == "uniform" else f", {k[4]}"), f"{mine['median_ms']:.1f} ms",
                     *others, f"{best['median_ms']:.1f} ms ({name})", f"{best['median_ms'] / mine['median_ms']:.1f}",
                     f"{mine['layer_mib']:.0f} MiB", f"{best['layer_mib']:.0f} MiB",
                     f"{mine['layer_mib'] / best['layer_mib']:.2f}"])
    if rows:
        print(f"### Beside others, {dtype}\n")
        table(["shape", "T", "pass", "`scattermoe`", "our `grouped_mm`", "oneDNN packed, products only",
               "ggml, products only", "transformers' best", "times faster", "memory", "theirs", "ratio"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--dtype", action="append", help="bf16 and f32 by default")
    options = parser.parse_args()
    cases = read(options.path)
    for dtype in options.dtype or ["bf16", "f32"]:
        for routing in ("uniform", "zipf", "one"):
            for implementation in OURS:
                ours(cases, dtype, implementation, routing)
        beside(cases, dtype)


if __name__ == "__main__":
    main()
