#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the table of experts cases, every program by turns on each case, and writes one JSON line per case and program.

    turns.py OUT.jsonl --grid quick|default|all [--only TEXT]... --program NAME=COMMAND...

A program reads a case per line of options from its standard input and answers each with JSON lines; experts_bench and its
peers do. Programs stay alive, so that a library is loaded once; each frees a case's tensors before the next. Processors
that others kept busy while a case ran show in "foreign_cpu" (a share of the machine); such a case is run again, up to
twice, and the least disturbed run is kept.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time

SHAPES = ["qwen3-30b-a3b", "olmoe-1b-7b", "granite-1b-a400m", "mixtral-8x7b"]
TOKENS = [1, 16, 256, 1024, 4096]
TICKS = os.sysconf("SC_CLK_TCK")
DISTURBED = 0.08


def case(shape, tokens, mode, dtype="bf16", routing="uniform", isa="best"):
    return {"shape": shape, "tokens": tokens, "mode": mode, "dtype": dtype, "routing": routing, "isa": isa}


def gflop(c):
    """Base FLOPs of one repeat, 10^9."""
    k, hidden, inter = {"qwen3-30b-a3b": (8, 2048, 768), "olmoe-1b-7b": (8, 2048, 1024),
                        "granite-1b-a400m": (8, 1024, 512), "mixtral-8x7b": (2, 4096, 14336)}[c["shape"]]
    return {"forward": 6, "lora": 12, "full": 18}[c["mode"]] * c["tokens"] * k * hidden * inter * 1e-9


def plan(c, implementations, peers=()):
    return {"case": c, "turns": [("ours", name) for name in implementations] + list(peers)}


TRANSFORMERS = [("transformers", "eager"), ("transformers", "grouped_mm")]


def grid(kind):
    """The cases in the order in which they run; each with who takes a turn."""
    if kind == "quick":
        for tokens, mode in ((1, "forward"), (64, "lora")):
            peers = [("transformers", "grouped_mm"), ("onednn", "packed")] + [("ggml", "mul_mat_id")] * (mode == "forward")
            yield plan(case("granite-1b-a400m", tokens, mode), ["scattermoe", "grouped_mm"], peers)
        return
    everything = kind == "all"
    for shape in SHAPES:  # the table of the products' own dtype
        for tokens in TOKENS:
            for mode in ("forward", "lora", "full"):
                c = case(shape, tokens, mode)
                if gflop(c) > 6000 and not everything:
                    continue  # minutes a case; the same rows per expert as other shapes have
                ours = ["scattermoe"] + ["batched_mm"] * (tokens <= 16)
                ours += ["scattermoe+packed"] * (mode != "full" and tokens >= 256)
                ours += ["grouped_mm"] * (mode == "lora" and tokens >= 1024 or everything)
                peers = []
                if mode == "lora" and tokens >= 1024:
                    # Under PEFT eager makes W + BA of all experts anew for each expert: three minutes a step of
                    # Qwen3-30B-A3B, so the smallest shape stands for it.
                    peers = TRANSFORMERS if gflop(c) < 60 or everything else TRANSFORMERS[1:]
                elif mode == "forward" and tokens in (1, 1024):
                    peers = TRANSFORMERS
                if mode != "full" and tokens == 1024 or mode == "forward" and tokens in (16, 4096):
                    peers = peers + [("onednn", "packed")]
                if mode == "forward" and tokens in (1, 16, 1024):
                    peers = peers + [("ggml", "mul_mat_id")]
                yield plan(c, ours, peers)
    for shape in SHAPES:
        for tokens in TOKENS:
            for mode in ("forward", "lora", "full"):
                c = case(shape, tokens, mode, dtype="f32")
                if gflop(c) > 1000 and not everything:
                    continue
                peers = TRANSFORMERS[1:] if mode == "lora" and tokens == 1024 and shape != "mixtral-8x7b" else []
                yield plan(c, ["scattermoe"] + ["batched_mm"] * (tokens <= 16), peers)
    for routing in ("zipf", "one"):
        for shape in SHAPES if everything else SHAPES[:2]:
            for tokens in (256, 1024, 4096) if everything else (1024,):
                for mode in ("forward", "lora"):
                    peers = TRANSFORMERS[1:] if mode == "lora" else []
                    yield plan(case(shape, tokens, mode, routing=routing), ["scattermoe"] + ["grouped_mm"] * everything, peers)
    for isa in ("avx512", "avx2", "portable"):
        for dtype in ("f32", "bf16"):
            for tokens in (1, 1024) if isa != "portable" else (256,):
                for mode in ("forward", "lora"):
                    yield plan(case(SHAPES[0], tokens, mode, dtype=dtype, isa=isa),
                               ["scattermoe"] + ["scattermoe+packed"] * (tokens == 1024))


def busy_seconds():
    """Processor seconds of everybody on this machine, and what the host took."""
    fields = [int(word) for word in open("/proc/stat").readline().split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS


class Program:
    """A benchmark that answers cases until its input ends. Another instruction set needs another process: a library that
    has compiled products for one keeps them."""

    def __init__(self, command):
        self.command = shlex.split(command)
        self.processes = {}

    def ask(self, c, implementation, seconds):
        process = self.processes.get(c["isa"])
        if process is None or process.poll() is not None:
            process = subprocess.Popen(self.command + ["--cases", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True)
            self.processes[c["isa"]] = process
        words = " ".join(f"--{key} {value}" for key, value in (c | {"implementation": implementation}).items())
        own, all_of_us, start = self.seconds_of(process), busy_seconds(), time.monotonic()
        process.stdin.write(f"{words} --seconds {seconds}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            return {"skipped": f"the program ended with code {process.wait()}"} | c | {"implementation": implementation}
        line = json.loads(answer)
        took = time.monotonic() - start
        foreign = busy_seconds() - all_of_us - (self.seconds_of(process) - own)
        line["foreign_cpu"] = round(max(0.0, foreign / (took * os.cpu_count())), 3)
        return line

    @staticmethod
    def seconds_of(process):
        fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self):
        for process in self.processes.values():
            process.stdin.close()
            process.wait()


def least_disturbed(program, c, implementation, seconds):
    lines = []
    while len(lines) < 3:
        start = time.monotonic()
        lines.append(program.ask(c, implementation, seconds))
        if lines[-1].get("foreign_cpu", 0) < DISTURBED or "skipped" in lines[-1] or time.monotonic() - start > 60:
            break
    return min(lines, key=lambda line: line.get("foreign_cpu", 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--grid", choices=("quick", "default", "all"), default="default")
    parser.add_argument("--only", action="append", default=[], help="cases whose line has all of these, as in lora or 1024")
    parser.add_argument("--program", action="append", required=True, help="NAME=COMMAND; NAME: ours or a peer's")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--seconds", type=float, default=None, help="to spend on the repeats of a case")
    options = parser.parse_args()
    programs = {name: Program(command) for name, command in (text.split("=", 1) for text in options.program)}
    seconds = options.seconds or (0.2 if options.grid == "quick" else 1.0)
    with open(options.out, "a") as out:
        for entry in grid(options.grid):
            words = {str(value) for value in entry["case"].values()}
            if not set(options.only) <= words:
                continue
            for name, implementation in entry["turns"]:
                if name not in programs:
                    continue
                line = least_disturbed(programs[name], entry["case"], implementation, seconds)
                line["commit"] = options.commit
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(f"{line.get('median_ms', 'skipped'):>12} ms  {line.get('share', '')!s:>6}  "
                      f"{line.get('foreign_cpu', '')!s:>6} foreign  {line['implementation']} {entry['case']}",
                      file=sys.stderr, flush=True)
    for program in programs.values():
        program.close()


if __name__ == "__main__":
    main()
