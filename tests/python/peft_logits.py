#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An adapter that Moesmith wrote, loaded by PEFT, gives the logits that Moesmith gives.

    peft_logits.py DUMP_LOGITS_BINARY MODEL_FOLDER ADAPTER_FOLDER

Exits 77 (skipped) with the reason where torch, transformers or peft is missing. In f32 the logits agree to 1e-4 of the
largest one; and the adapter must matter: without it they differ by more than that.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    import peft
    import transformers
    from safetensors.torch import load_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def logits_of_moesmith(binary, model, adapter, ids, folder):
    output = folder / "logits.safetensors"
    subprocess.run([binary, model, adapter, output, "f32", *map(str, ids)], check=True)
    return load_file(output)["logits"]


def main():
    binary, model_folder, adapter_folder = sys.argv[1:4]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="eager")
    ids = torch.randint(0, model.config.vocab_size, (1, 48))
    with torch.no_grad():
        base = model(ids).logits[0].clone()
        adapted = peft.PeftModel.from_pretrained(model, adapter_folder).eval()
        theirs = adapted(ids).logits[0]
    with tempfile.TemporaryDirectory() as scratch:
        ours = logits_of_moesmith(binary, model_folder, adapter_folder, ids[0].tolist(), pathlib.Path(scratch))
    largest = theirs.abs().max().item()
    error, effect = ((ours - theirs).abs().max() / largest).item(), ((base - theirs).abs().max() / largest).item()
    print(json.dumps({"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__,
                      "adapter": adapter_folder, "relative_error": error, "effect_of_the_adapter": effect}))
    sys.exit(0 if error <= 1e-4 < effect else 1)


if __name__ == "__main__":
    main()
