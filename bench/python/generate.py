#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`generate` of Qwen3-30B-A3B with random weights through transformers: ours beside theirs.

    python3 bench/python/generate.py                             4 layers, vocabulary 4096, the CPU
    python3 bench/python/generate.py --device cuda --layers 48 --vocabulary 151936 --batch 1,16 \
        --implementation grouped_mm,scattermoe,sonicmoe,moesmith

Greedy, a prompt of `--tokens`, `--new` tokens; the implementations take turns. A line of JSON for
each with the medians of the whole, of the prompt alone (one new token) and of a further token.
Where grouped_mm is asked for, transformers itself decodes with batched_mm on GPUs.
"""

import itertools
import json
import os
import statistics
import time

import torch
from transformers import AutoModelForCausalLM

import moesmith
import train_step

NUMBERS = {"new": 64}


def timed(options, model, ids, new):
    start = time.perf_counter()
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    if options.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def measure(options, model, batch, tokens):
    """{implementation: ([seconds of the prompt], [seconds of the whole])}"""
    ids = torch.randint(0, options.vocabulary, (batch, tokens), device=options.device)
    took = {name: ([], []) for name in options.implementation}
    for number, name in itertools.product(range(options.rounds + 1), options.implementation):
        model.set_experts_implementation(name)
        prompt = timed(options, model, ids, 1)
        whole = timed(options, model, ids, options.new)
        if number:  # the first round warms up
            took[name][0].append(prompt)
            took[name][1].append(whole)
    return took


def main():
    options = train_step.parse(__doc__, "eager,grouped_mm,moesmith", "cpu", batch="1", **NUMBERS)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    moesmith.register()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(
            train_step.make_config(options), dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()
    torch.set_default_dtype(torch.float32)
    lists = [map(int, text.split(",")) for text in (options.batch, options.tokens)]
    for batch, tokens in itertools.product(*lists):
        for name, (prompt, whole) in measure(options, model, batch, tokens).items():
            first, all_of_it = statistics.median(prompt), statistics.median(whole)
            line = {
                "bench": "python_generate",
                "implementation": name,
                "layers": options.layers,
                "vocabulary": options.vocabulary,
                "batch": batch,
                "tokens": tokens,
                "new": options.new,
                "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
                "threads": torch.get_num_threads(),
                "rounds": options.rounds,
                "prompt_ms": round(first * 1e3, 1),
                "whole_ms": round(all_of_it * 1e3, 1),
                "best_ms": round(min(whole) * 1e3, 1),
                "ms_per_token": round((all_of_it - first) / (options.new - 1) * 1e3, 2),
                "versions": train_step.versions(),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
