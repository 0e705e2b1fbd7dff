#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole LoRA training steps in bf16 with transformers and PEFT on the CPU: the peer of train_step_bench.

    python3 hf_train_step.py --model build/bench/slice4 --implementation grouped_mm       (--help)

The same model, adapters, number of tokens and threads. Prints one JSON line: a step from embedding to optimiser, and the
process's peak resident memory with what was resident before the model was made. Needs torch, transformers and peft.
"""
import argparse
import json
import os
import sys
import time

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def status_mib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/austen/model", help="a checkpoint's folder")
    parser.add_argument("--implementation", default="grouped_mm", help="of the experts")
    for name, fallback in (("tokens", 1024), ("segments", 1), ("steps", 5), ("checkpointing", 0)):
        parser.add_argument(f"--{name}", type=int, default=fallback)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    base = status_mib("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.set_experts_implementation(options.implementation)
    model = get_peft_model(model, LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]))
    model.config.use_cache = False
    model.train()
    if options.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, model.config.vocab_size, (options.segments, options.tokens // options.segments))

    def step():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(json.dumps({
        "bench": "train_step", "implementation": f"transformers {options.implementation} + peft",
        "model": os.path.basename(options.model), "tokens": ids.numel(), "segments": options.segments,
        "checkpointing": options.checkpointing, "threads": torch.get_num_threads(), "repeats": len(seconds),
        "median_s": round(median, 4), "best_s": round(seconds[0], 4), "tokens_per_s": round(ids.numel() / median, 1),
        "tokens_per_s_best": round(ids.numel() / seconds[0], 1), "base_rss_mib": round(base),
        "peak_rss_mib": round(status_mib("VmHWM")),
        "peer": f"transformers {transformers.__version__} + peft {peft.__version__} + torch {torch.__version__}"}))


if __name__ == "__main__":
    sys.exit(main())
