#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole LoRA training steps of Qwen3-30B-A3B with random weights, through transformers and PEFT.

    python3 bench/python/train_step.py                           4 layers, vocabulary 4096, the CPU
    python3 bench/python/train_step.py --device cuda --layers 48 --vocabulary 151936 \
        --tokens 4096,8192 --checkpointing 1 --implementation grouped_mm,scattermoe,sonicmoe

Adapters of rank 16 on attention and experts, AdamW. The implementations take turns on one model, a
step each; a line of JSON for each with the median step and, on GPUs, the peak of allocated memory.
"""

import argparse
import json
import os
import time

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

import moesmith


def versions():
    return (
        f"moesmith {moesmith.__version__}, transformers {transformers.__version__}, "
        f"peft {peft.__version__}, torch {torch.__version__}"
    )


def make_config(options):
    return Qwen3MoeConfig(
        vocab_size=options.vocabulary,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=options.layers,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
        norm_topk_prob=True,
        max_position_embeddings=40960,
        tie_word_embeddings=False,
    )


def make_model(options):
    config = make_config(options)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    torch.set_default_dtype(torch.float32)
    lora = peft.LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    model = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
    model.config.use_cache = False
    if options.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def steps(options, model, optimizer, tokens):
    """{implementation: [seconds of each step]} and {implementation: peak MiB} on GPUs."""
    ids = torch.randint(0, options.vocabulary, (1, tokens), device=options.device)
    cuda = options.device == "cuda"
    seconds, peaks = {name: [] for name in options.implementation}, {}
    for number in range(options.rounds + 1):
        for name in options.implementation:
            model.set_experts_implementation(name)
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            try:
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if cuda:
                    torch.cuda.synchronize()
                    peaks[name] = torch.cuda.max_memory_allocated() / 2**20
            except torch.OutOfMemoryError:
                optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                continue
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds, peaks


def parse(description, implementation, device, **further):
    """The command line, with these defaults; step_breakdown.py and generate.py have the same and
    further options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--implementation", default=implementation, help="a list, as in a,b")
    parser.add_argument("--tokens", default="1024", help="a list, as in a,b")
    parser.add_argument("--device", default=device, choices=("cpu", "cuda"))
    numbers = {"layers": 4, "vocabulary": 4096, "checkpointing": 0, "rounds": 3}
    for name, value in (numbers | further).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    options.implementation = options.implementation.split(",")
    return options


def main():
    options = parse(__doc__, "eager,grouped_mm,moesmith", "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    moesmith.register()
    model = make_model(options)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    for tokens in map(int, options.tokens.split(",")):
        seconds, peaks = steps(options, model, optimizer, tokens)
        for name, times in seconds.items():
            if not times:
                print(
                    json.dumps({"implementation": name, "tokens": tokens, "error": "out of memory"})
                )
                continue
            median = sorted(times)[len(times) // 2]
            peak = peaks.get(name)
            line = {
                "bench": "python_train_step",
                "implementation": name,
                "layers": options.layers,
                "vocabulary": options.vocabulary,
                "tokens": tokens,
                "checkpointing": options.checkpointing,
                "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
                "threads": torch.get_num_threads(),
                "rounds": len(times),
                "median_s": round(median, 4),
                "best_s": round(min(times), 4),
                "tokens_per_s": round(tokens / median, 1),
                "peak_mib": None if peak is None else round(peak),
                "versions": versions(),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
