#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One experts layer of transformers, with PEFT's LoRA on both projections, on the CPU: the peer of experts_bench.

    python3 hf_experts.py --implementation grouped_mm --shape qwen3-30b-a3b --tokens 1024 --mode lora --dtype bf16
    python3 hf_experts.py --cases -      one case per line of the same options, from the standard input

Prints one JSON line per case, with the fields of experts_bench: FLOPs count the base products only (6 T K H I forward,
12 with frozen weights and LoRA, 18 with trained ones); memory is the process's resident peak, reset before the layer is
made, and what was resident then. Experts rotate over the repeats as there. --implementation is a name that transformers
knows: eager, grouped_mm. Needs torch, transformers and peft.
"""
import argparse
import ctypes
import gc
import itertools
import json
import math
import os
import random
import shlex
import statistics
import sys
import time

import peft
import torch
import transformers
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

SIZES = {"qwen3-30b-a3b": (128, 8, 2048, 768), "olmoe-1b-7b": (64, 8, 2048, 1024),
         "granite-1b-a400m": (32, 8, 1024, 512), "mixtral-8x7b": (8, 2, 4096, 14336)}
PASSES = {"forward": 1, "lora": 2, "full": 3}
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
ROUTING_SETS = 8


def status_mib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def available_mib():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return math.inf


def draw(kind, experts, rng):
    return int(experts ** rng.random()) - 1 if kind == "zipf" else rng.randrange(experts)


def routing_sets(case, experts, top_k):
    """Sets of [T, K] choices over relabelled experts; for T = 1 they are dealt out like cards (bench/experts/routing_sets.h)."""
    rng = random.Random(7)
    deck = rng.sample(range(experts), experts)
    for number in range(ROUTING_SETS):
        if case.tokens == 1:
            yield torch.tensor([[deck[(number * top_k + k) % experts] for k in range(top_k)]])
            continue
        label = rng.sample(range(experts), experts)
        rows = []
        for _ in range(case.tokens):
            chosen = list(range(top_k)) if case.routing == "one" else []
            while len(chosen) < top_k:
                expert = draw(case.routing, experts, rng)
                if expert not in chosen:
                    chosen.append(expert)
            rows.append([label[expert] for expert in chosen])
        yield torch.tensor(rows)


class Holder(torch.nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.experts = experts

    def forward(self, *args):
        return self.experts(*args)


def make_layer(case, dtype):
    experts, top_k, hidden, inter = SIZES[case.shape]
    config = Qwen3MoeConfig(hidden_size=hidden, moe_intermediate_size=inter, num_experts=experts,
                            num_experts_per_tok=top_k)
    config._experts_implementation = case.implementation
    torch.set_default_dtype(dtype)
    layer = Holder(Qwen3MoeExperts(config))
    torch.set_default_dtype(torch.float32)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -1 / 32, 1 / 32)
        parameter.requires_grad_(case.mode == "full")
    if case.mode == "lora":
        layer = peft.get_peft_model(layer, peft.LoraConfig(
            r=case.rank, lora_alpha=2 * case.rank, lora_dropout=0.0, target_modules=[], init_lora_weights=False,
            target_parameters=["experts.gate_up_proj", "experts.down_proj"]))
    return layer


def needed_mib(case):
    """Weights, their sums with LoRA's product (PEFT makes them), trained gradients, and rows of slots, roughly."""
    experts, top_k, hidden, inter = SIZES[case.shape]
    element = DTYPES[case.dtype].itemsize
    weights = experts * 3 * hidden * inter * element
    slots = case.tokens * top_k * (2 * hidden + 4 * inter) * element
    return (weights * {"forward": 1, "lora": 3.5, "full": 2}[case.mode] + 2 * slots) / 2**20


def line_of(case):
    line = {"bench": "experts", "implementation": f"transformers {case.implementation}"
            + (" + peft" if case.mode == "lora" else ""), "shape": case.shape, "tokens": case.tokens,
            "mode": case.mode, "dtype": case.dtype, "routing": case.routing}
    return line


def time_repeats(case, run):
    """Sorted seconds. The first run warms up; where it takes over 20 s it is the measurement."""
    seconds, start = [], 0.0
    while True:
        begin = time.perf_counter()
        run(len(seconds))
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == 1:
            if seconds[0] > 20:
                return seconds
            start = time.perf_counter()
        elif len(seconds) > (2 if seconds[0] > 4 else 3) and (
                time.perf_counter() - start > case.seconds or len(seconds) > 1000):
            return sorted(seconds[1:])


def measure(case):
    experts, top_k, hidden, inter = SIZES[case.shape]
    dtype = DTYPES[case.dtype]
    torch.manual_seed(0)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset_peak()
    base = status_mib("VmRSS")
    layer = make_layer(case, dtype)
    parameters = [p for p in layer.parameters() if p.requires_grad]
    backward = case.mode != "forward"
    sets = list(routing_sets(case, experts, top_k))
    hidden_states = torch.randn(case.tokens, hidden).to(dtype).requires_grad_(backward)
    weights = torch.rand(case.tokens, top_k).to(dtype).requires_grad_(backward)
    d_output = torch.randn(case.tokens, hidden).to(dtype)

    def run(repeat):
        with torch.set_grad_enabled(backward):
            output = layer(hidden_states, sets[repeat % ROUTING_SETS], weights)
            if backward:
                output.backward(d_output)
                for tensor in [hidden_states, weights, *parameters]:
                    tensor.grad = None

    seconds = time_repeats(case, run)
    peak = status_mib("VmHWM")
    flops = PASSES[case.mode] * 6 * case.tokens * top_k * hidden * inter
    median = statistics.median(seconds)
    return {"threads": torch.get_num_threads(), "base_rss_mib": round(base, 1),
            "peak_rss_mib": round(peak, 1), "layer_mib": round(peak - base, 1), "repeats": len(seconds),
            "median_ms": round(median * 1e3, 3), "p10_ms": round(seconds[int(0.1 * (len(seconds) - 1) + 0.5)] * 1e3, 3),
            "p90_ms": round(seconds[int(0.9 * (len(seconds) - 1) + 0.5)] * 1e3, 3), "best_ms": round(seconds[0] * 1e3, 3),
            "gflops": round(flops / median * 1e-9, 1), "gflops_best": round(flops / seconds[0] * 1e-9, 1)}


def run_cases(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, fallback in (("implementation", "grouped_mm"), ("shape", "qwen3-30b-a3b"), ("tokens", "1024"),
                           ("mode", "lora"), ("dtype", "bf16"), ("routing", "uniform")):
        parser.add_argument(f"--{name}", default=fallback, help="a list, as in a,b")
    parser.add_argument("--isa", default="best", help="without effect: torch chooses")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    lists = [getattr(options, name).split(",") for name in ("shape", "dtype", "mode", "routing", "tokens", "implementation")]
    for shape, dtype, mode, routing, tokens, implementation in itertools.product(*lists):
        case = argparse.Namespace(shape=shape, dtype=dtype, mode=mode, routing=routing, tokens=int(tokens),
                                  implementation=implementation, rank=options.rank, seconds=options.seconds)
        line = line_of(case)
        needed, available = needed_mib(case), available_mib()
        if needed > 0.9 * available:
            line["skipped"] = f"memory: too little, got {available:.0f} MiB, expected {needed:.0f} MiB"
        else:
            line |= measure(case)
        line["peer"] = f"transformers {transformers.__version__} + peft {peft.__version__} + torch {torch.__version__}"
        print(json.dumps(line), flush=True)


def main():
    if sys.argv[1:] == ["--cases", "-"]:
        for text in iter(sys.stdin.readline, ""):
            run_cases(shlex.split(text))
    else:
        run_cases(sys.argv[1:])


if __name__ == "__main__":
    main()
