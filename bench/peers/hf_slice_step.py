#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One LoRA training step of a 1-layer slice at Qwen3-30B-A3B's layer sizes with transformers and PEFT on the CPU.

The peer of bench/train_step_bench.cc: same sizes, same adapters, same number of tokens, same threads.
    python3 hf_slice_step.py [experts_implementation] [tokens] [layers] [steps]
Prints one JSON line: medians of the whole step (embedding to optimiser) and of the decoder layers alone (forward and
backward from a given gradient), and the process's peak resident memory after each.
Needs torch, transformers and peft.
"""
import json
import os
import resource
import statistics
import sys
import time

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen3MoeConfig


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    implementation = sys.argv[1] if len(sys.argv) > 1 else "grouped_mm"
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    layers = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    config = Qwen3MoeConfig(vocab_size=4096, hidden_size=2048, intermediate_size=6144, num_hidden_layers=layers,
                            num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768,
                            num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, max_position_embeddings=40960,
                            rope_theta=1e6, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.set_experts_implementation(implementation)
    model = get_peft_model(model, LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]))
    model.config.use_cache = False
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(0, config.vocab_size, (1, tokens))
    base = model.get_base_model().model

    def step():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    hidden = torch.randn(1, tokens, config.hidden_size, dtype=torch.bfloat16)
    positions = torch.arange(tokens)[None]
    gradient = torch.randn_like(hidden)

    def decoder_layers():
        x = hidden.detach().requires_grad_()
        rope = base.rotary_emb(x, positions)
        for layer in base.layers:
            y = layer(x, position_embeddings=rope, position_ids=positions, attention_mask=None)
            x = y[0] if isinstance(y, tuple) else y
        x.backward(gradient)
        for p in trained:
            p.grad = None

    def median(run):
        run()
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    layers_s = median(decoder_layers)
    layers_mib = peak_mib()
    step_s = median(step)
    print(json.dumps({
        "peer": f"transformers {transformers.__version__} + peft {peft.__version__} + torch {torch.__version__}",
        "implementation": implementation, "threads": torch.get_num_threads(), "tokens": tokens, "layers": layers,
        "step_s": round(step_s, 3), "step_tokens_per_s": round(tokens / step_s, 1), "layers_s": round(layers_s, 3),
        "layers_tokens_per_s": round(tokens / layers_s, 1), "layers_peak_mib": round(layers_mib),
        "step_peak_mib": round(peak_mib())}))


if __name__ == "__main__":
    main()
