#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where a LoRA step of train_step.py goes on a GPU: experts or the rest, the GPU or the host.

    python3 bench/python/step_breakdown.py --layers 48 --vocabulary 151936 --tokens 4096,8192 \
        --checkpointing 1 --implementation none,grouped_mm,scattermoe,sonicmoe

`none` is the step without experts: they return their input, and every factor's gradient is 0, so
that attention, router, norms, loss and optimiser are what they are for the others. Its time is what
no experts implementation can go below. A line of JSON for each implementation:

    step_ms     median of the steps but for the first of each turn; a turn is `--steps` steps of one
                implementation, so that the allocator has what it needs, as in training
    allocations of memory from the driver, and gc_ms of Python's garbage collector, in the slowest
                of these steps
    enqueue_ms  until the host has queued the step: close to step_ms, the host is what bounds it
    gpu_ms      what the GPU's kernels take together, in one more step under torch.profiler; ours_ms
                those of this package among them; launches their number
    peaks_mib   of allocated memory: forward through the layers; loss with the head, both ways;
                backward through the layers; optimiser

With `--chunked_loss 1` head and loss run by 1,024 tokens, each part again in backward, as the fused
losses of training stacks do: no logits of all tokens. With `--compile 1` torch.compile has each
decoder layer or, for grouped_mm, which under PEFT and checkpointing does not run so, its attention
and norms.
"""

import gc
import json
import re
import statistics
import time

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import moesmith
import train_step
from moesmith import _forward

CHUNK = 1024
NUMBERS = {"steps": 4, "chunked_loss": 0, "kernels": 1, "compile": 0}


class NoExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weights, *factors):
        ctx.save_for_backward(weights, *factors)
        return hidden.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, *[torch.zeros_like(t) for t in ctx.saved_tensors]


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


def use(options, model, name):
    """Makes `name` the implementation, compiled as the options say."""
    model.set_experts_implementation(name)
    for layer in model.get_base_model().model.layers:
        parts = layer.self_attn, layer.input_layernorm, layer.post_attention_layernorm
        for module in (layer, *parts):
            module._compiled_call_impl = None
        if options.compile:
            for module in parts if name == "grouped_mm" else (layer,):
                module.compile()


class Costs:
    """What besides the model takes time: memory from the driver, and the garbage collector."""

    def __init__(self):
        self.gc_seconds, self._gc_start, self._device_calls = 0.0, 0.0, 0
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase, _information):
        if phase == "start":
            self._gc_start = time.perf_counter()
        else:
            self.gc_seconds += time.perf_counter() - self._gc_start

    def take(self):
        """(calls of the driver for memory, milliseconds of collecting) since it was last asked."""
        stats = torch.cuda.memory_stats()
        calls = stats["num_device_alloc"] + stats["num_device_free"]
        result = calls - self._device_calls, round(self.gc_seconds * 1e3, 1)
        self._device_calls, self.gc_seconds = calls, 0.0
        return result


def chunked_loss(model, ids):
    causal = model.get_base_model()
    hidden, targets = causal.model(input_ids=ids)[0][0, :-1], ids[0, 1:]

    def part(rows, expected):
        logits = causal.lm_head(rows).float()
        return torch.nn.functional.cross_entropy(logits, expected, reduction="sum")

    pairs = zip(hidden.split(CHUNK), targets.split(CHUNK))
    return sum(checkpoint(part, *pair, use_reentrant=False) for pair in pairs) / len(targets)


def step(options, model, optimizer, ids, peaks):
    torch.cuda.reset_peak_memory_stats()
    if options.chunked_loss:
        loss = chunked_loss(model, ids)
    else:
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    del loss
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
    took, queued, costs = ({name: [] for name in options.implementation} for _ in range(3))
    lines, meter = {name: {} for name in options.implementation}, Costs()
    for turn in range(options.rounds * len(options.implementation)):
        name = options.implementation[turn % len(options.implementation)]
        use(options, model, name)
        for number in range(options.steps):
            torch.cuda.synchronize()
            meter.take()
            start = time.perf_counter()
            step(options, model, optimizer, ids, peaks)
            half = time.perf_counter() - start
            torch.cuda.synchronize()
            if number:  # the first of a turn warms up
                took[name].append(time.perf_counter() - start)
                queued[name].append(half)
                costs[name].append((took[name][-1], *meter.take()))
        lines[name]["peaks_mib"] = dict(peaks.mib)
    for name, line in lines.items():
        use(options, model, name)
        line["step_ms"] = round(statistics.median(took[name]) * 1e3, 1)
        line["best_ms"] = round(min(took[name]) * 1e3, 1)
        line["enqueue_ms"] = round(statistics.median(queued[name]) * 1e3, 1)
        _, line["allocations"], line["gc_ms"] = max(costs[name])
        line["steps_ms"] = [round(one * 1e3, 1) for one in took[name]]
        if options.kernels:
            line |= kernels(lambda: step(options, model, optimizer, ids, peaks))
    hook.remove()
    return lines


def main():
    options = train_step.parse(__doc__, "none,grouped_mm,scattermoe,sonicmoe", "cuda", **NUMBERS)
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
            head |= {"chunked_loss": options.chunked_loss, "compile": options.compile}
            head |= {
                "device": torch.cuda.get_device_name(),
                "rounds": options.rounds,
                "steps": options.steps,
            }
            print(json.dumps(head | line | {"versions": train_step.versions()}), flush=True)


if __name__ == "__main__":
    main()
