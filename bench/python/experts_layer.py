#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One experts layer inside transformers, with PEFT's LoRA on both projections: ours beside theirs.

    python3 bench/python/experts_layer.py                        the CPU, Qwen3-30B-A3B, 1024 tokens
    python3 bench/python/experts_layer.py --device cuda --tokens 4096,16384 \
        --implementation grouped_mm,scattermoe,sonicmoe

The implementations take turns, a round each, on the same module, weights and routing; a line of
JSON for each with the median of the rounds, the 10 and 90 % quantiles, and on GPUs the median of
the host's share (until all is queued) and the peak of what a call allocates. FLOPs count the base
products only (6 T K H I forward, 12 with LoRA on frozen weights, 18 with trained ones). Nothing is
checked here: tests/python does that.
"""

import argparse
import itertools
import json
import os
import statistics
import time

import peft
import torch
import transformers
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

import moesmith

# experts, slots per token, hidden, intermediate
SHAPES = {
    "qwen3-30b-a3b": (128, 8, 2048, 768),
    "olmoe-1b-7b": (64, 8, 2048, 1024),
    "mixtral-8x7b": (8, 2, 4096, 14336),
    "qwen3-next-80b": (512, 10, 2048, 512),
}
PASSES = {"forward": 1, "lora": 2, "full": 3}
ROUTINGS = 4


class Holder(torch.nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.experts = experts

    def forward(self, *arguments):
        return self.experts(*arguments)


def make_layer(options, shape, mode, dtype):
    experts, top_k, hidden, inter = SHAPES[shape]
    config = Qwen3MoeConfig(
        hidden_size=hidden,
        moe_intermediate_size=inter,
        num_experts=experts,
        num_experts_per_tok=top_k,
    )
    torch.set_default_dtype(dtype)
    with torch.device(options.device):
        layer = Holder(Qwen3MoeExperts(config))
    torch.set_default_dtype(torch.float32)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -1 / 32, 1 / 32)
        parameter.requires_grad_(mode == "full")
    if mode == "lora":
        lora = peft.LoraConfig(
            r=options.rank,
            lora_alpha=2 * options.rank,
            target_modules=[],
            target_parameters=["experts.gate_up_proj", "experts.down_proj"],
            init_lora_weights=False,
        )
        layer = peft.get_peft_model(layer, lora, autocast_adapter_dtype=False)
    return layer, config


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(options, shape, mode, tokens):
    """{implementation: [seconds of each round]}, the host's share of them, and peaks of allocated
    MiB on GPUs."""
    experts, top_k, hidden, _ = SHAPES[shape]
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[options.dtype]
    layer, config = make_layer(options, shape, mode, dtype)
    backward = mode != "forward"
    place = {"device": options.device}
    x = torch.randn(tokens, hidden, dtype=dtype, **place).requires_grad_(backward)
    w = torch.rand(tokens, top_k, dtype=dtype, **place).requires_grad_(backward)
    dy = torch.randn(tokens, hidden, dtype=dtype, **place)
    chosen = [torch.rand(tokens, experts, **place).topk(top_k).indices for _ in range(ROUTINGS)]
    trained = [x, w, *[p for p in layer.parameters() if p.requires_grad]]

    def run(number):
        with torch.set_grad_enabled(backward):
            y = layer(x, chosen[number % ROUTINGS], w)
            if backward:
                y.backward(dy)
                for tensor in trained:
                    tensor.grad = None

    seconds, host = ({name: [] for name in options.implementation} for _ in range(2))
    peaks = {}
    for number in range(options.rounds + 1):
        for name in options.implementation:
            config._experts_implementation = name
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            synchronise(options.device)
            start = time.perf_counter()
            run(number)
            queued = time.perf_counter() - start
            synchronise(options.device)
            if number:  # the first round warms up
                host[name].append(queued)
                seconds[name].append(time.perf_counter() - start)
            if options.device == "cuda":
                peaks[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return seconds, host, peaks


def line_of(options, shape, mode, tokens, name, seconds, host, peak):
    _, top_k, hidden, inter = SHAPES[shape]
    flops = PASSES[mode] * 6 * tokens * top_k * hidden * inter
    seconds = sorted(seconds)
    last = len(seconds) - 1
    median = seconds[len(seconds) // 2]
    cuda = options.device == "cuda"
    return {
        "bench": "python_experts",
        "implementation": name,
        "shape": shape,
        "tokens": tokens,
        "mode": mode,
        "dtype": options.dtype,
        "rank": options.rank,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "rounds": len(seconds),
        "median_ms": round(median * 1e3, 3),
        "p10_ms": round(seconds[round(0.1 * last)] * 1e3, 3),
        "p90_ms": round(seconds[round(0.9 * last)] * 1e3, 3),
        "host_ms": round(statistics.median(host) * 1e3, 3) if cuda else None,
        "gflops": round(flops / median * 1e-9, 1),
        "peak_mib": None if peak is None else round(peak, 1),
        "versions": f"moesmith {moesmith.__version__}, transformers {transformers.__version__}, "
        f"peft {peft.__version__}, torch {torch.__version__}",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (
        ("implementation", "eager,grouped_mm,moesmith"),
        ("shape", "qwen3-30b-a3b"),
        ("tokens", "1024"),
        ("mode", "lora"),
    ):
        parser.add_argument(f"--{name}", default=value, help="a list, as in a,b")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "f32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.implementation = options.implementation.split(",")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    moesmith.register()
    lists = [getattr(options, name).split(",") for name in ("shape", "mode", "tokens")]
    for shape, mode, tokens in itertools.product(*lists):
        seconds, host, peaks = measure(options, shape, mode, int(tokens))
        for name in options.implementation:
            figures = seconds[name], host[name], peaks.get(name)
            line = line_of(options, shape, mode, int(tokens), name, *figures)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
