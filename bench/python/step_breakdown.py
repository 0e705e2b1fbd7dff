#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where a LoRA step of train_step.py goes on a GPU: experts or the rest, the GPU or the host.

    python3 bench/python/step_breakdown.py --layers 48 --vocabulary 151936 --tokens 4096,8192 \
        --checkpointing 1 --implementation none,grouped_mm,scattermoe,sonicmoe

`none` is the step without experts: they return their input, and every factor's gradient is 0, so
that attention, router, norms, loss and optimiser are what they are for the others. Its time is what
no experts implementation can go below. A line of JSON for each implementation:

    step_ms     median of the rounds, taken by turns
    enqueue_ms  until the host has queued the step: close to step_ms, the host is what bounds it
    gpu_ms      what the GPU's kernels take together, in one more step under torch.profiler; ours_ms
                those of this package among them; launches their number
    peaks_mib   of allocated memory: forward through the layers; loss with the head, both ways;
                backward through the layers; optimiser
"""

import json
import re
import statistics
import time

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import moesmith
import train_step
from moesmith import _forward


class NoExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weights, *factors):
        ctx.like = weights, factors
        return hidden.clone()

    @staticmethod
    def backward(ctx, gradient):
        weights, factors = ctx.like
        return gradient, *[torch.zeros_like(t) for t in (weights, *factors)]


def no_experts(module, hidden_states, top_k_index, top_k_weights):
    adapters = (getattr(module, _forward.ADAPTERS, None) or {}).values()
    factors = [factor for adapter in adapters for factor in (adapter.a, adapter.b)]
    return NoExperts.apply(hidden_states, top_k_weights, *factors)


class Peaks:
    """The peak of allocated MiB between marks."""

    def __init__(self):
        self.mib = {}

    def mark(self, name):
        self.mib[name] = round(torch.cuda.max_memory_allocated() / 2**20)
        torch.cuda.reset_peak_memory_stats()

    def watch(self, module, _inputs, output):
        """A hook on the decoder: its output lies between the layers and the head."""
        self.mark("layers_forward")
        output[0].register_hook(lambda _gradient: self.mark("loss"))


def step(model, optimizer, ids, peaks):
    torch.cuda.reset_peak_memory_stats()
    model(input_ids=ids, labels=ids).loss.backward()
    peaks.mark("layers_backward")
    optimizer.step()
    peaks.mark("optimiser")
    optimizer.zero_grad(set_to_none=True)


def kernels(run):
    """Of the GPU's kernels in one run: milliseconds, ours among them, number, the costliest."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    rows = [row for row in profiler.key_averages() if row.device_type == DeviceType.CUDA]
    rows = [row for row in rows if not row.key.startswith("Optimizer.")]  # a span, no kernel
    rows.sort(key=lambda row: -row.self_device_time_total)
    top = {}
    for row in rows[:24]:
        key = re.sub(r"\(.*|at::native::|void ", "", row.key)[:100]
        top[key] = round(top.get(key, 0) + row.self_device_time_total / 1e3, 2)
    return {
        "gpu_ms": round(sum(row.self_device_time_total for row in rows) / 1e3, 1),
        "ours_ms": round(
            sum(row.self_device_time_total for row in rows if "moesmith" in row.key) / 1e3, 1
        ),
        "launches": sum(row.count for row in rows),
        "kernels_ms": top,
    }


def measure(options, model, optimizer, tokens):
    """{implementation: its line}"""
    ids = torch.randint(0, options.vocabulary, (1, tokens), device="cuda")
    peaks = Peaks()
    hook = model.get_base_model().model.register_forward_hook(peaks.watch)
    took, queued = ({name: [] for name in options.implementation} for _ in range(2))
    lines = {name: {} for name in options.implementation}
    for number in range(options.rounds + 1):
        for name in options.implementation:
            model.set_experts_implementation(name)
            torch.cuda.synchronize()
            start = time.perf_counter()
            step(model, optimizer, ids, peaks)
            half = time.perf_counter() - start
            torch.cuda.synchronize()
            if number:  # the first round warms up
                took[name].append(time.perf_counter() - start)
                queued[name].append(half)
            lines[name]["peaks_mib"] = dict(peaks.mib)
    for name, line in lines.items():
        model.set_experts_implementation(name)
        line["step_ms"] = round(statistics.median(took[name]) * 1e3, 1)
        line["best_ms"] = round(min(took[name]) * 1e3, 1)
        line["enqueue_ms"] = round(statistics.median(queued[name]) * 1e3, 1)
        line |= kernels(lambda: step(model, optimizer, ids, peaks))
    hook.remove()
    return lines


def main():
    options = train_step.parse(__doc__, "none,grouped_mm,scattermoe,sonicmoe", "cuda")
    torch.manual_seed(0)
    moesmith.register()
    _forward.FUNCTIONS["none"] = no_experts
    ALL_EXPERTS_FUNCTIONS.register("none", no_experts)
    model = train_step.make_model(options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for tokens in map(int, options.tokens.split(",")):
        for name, line in measure(options, model, optimizer, tokens).items():
            head = {"bench": "python_step_breakdown", "implementation": name, "tokens": tokens}
            head |= {"layers": options.layers, "vocabulary": options.vocabulary}
            head |= {"device": torch.cuda.get_device_name(), "rounds": options.rounds}
            print(json.dumps(head | line | {"versions": train_step.versions()}), flush=True)


if __name__ == "__main__":
    main()
