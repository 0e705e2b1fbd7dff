#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden data through transformers and PEFT with our implementation: logits, loss, every gradient.

    python3 tests/python/goldens.py FOLDER... [--device cuda] [--dtype f32,bf16]
        [--implementation moesmith] [--part model,adapter,adapter_gate_up,adapter_down]

A FOLDER is one that make_goldens.py wrote, or holds such ones. b is the golden data.
f32: max |a - b| <= 1e-4 max |b| of each tensor; where that fails, twice what transformers' `eager`
experts give on that device. bf16: ||a - b|| <= 2 ||c - b|| + 2^-8 ||b|| of logits, loss and each
gradient of the experts, and of the other layers' gradients together. All are routed as in f32; c is
the same model in bf16 with `eager` experts or with experts in double, whichever is further off:
what the rest of the model makes of bf16 is no error of the experts.
A line for each case with the worst tensor; the exit status is 1 when one is off. What an
implementation refuses (`sonicmoe`: f32) is a line with the reason.
"""

import argparse
import itertools
import math
import pathlib
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import moesmith
from moesmith import _forward
from support import load, loss_of, relative_error

PARTS = ("model", "adapter", "adapter_gate_up", "adapter_down")
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def golden_data(folder, part):
    """{name: tensor} that transformers and PEFT wrote down."""
    prefix = "" if part == "model" else part + "_"
    wanted = load_file(folder / f"{prefix}expected.safetensors")
    return {name: t for name, t in wanted.items() if not name.startswith("train.")}


def in_double(module, hidden_states, top_k_index, top_k_weights):
    """The experts in double on the CPU; their output and gradients are rounded once."""

    def exact(tensor):
        return None if tensor is None else tensor.to("cpu", torch.float64)

    def adapter(name):
        given = (module.__dict__.get(_forward.ADAPTERS) or {}).get(name)
        return given and given._replace(a=exact(given.a), b=exact(given.b))

    first = "gate_up_proj" if module.has_gate else "up_proj"
    y = moesmith.experts(
        exact(hidden_states),
        top_k_index.cpu(),
        exact(top_k_weights),
        exact(getattr(module, first)),
        exact(module.down_proj),
        layer=_forward.resolve(module, "eager"),
        gate_up_bias=exact(getattr(module, first + "_bias", None)),
        down_bias=exact(getattr(module, "down_proj_bias", None)),
        gate_up_lora=adapter(first),
        down_lora=adapter("down_proj"),
    )
    return y.to(hidden_states)


class Routing:
    """Which experts each token goes to: written down in one run, followed in the next ones. In bf16
    a tie may fall to either side, and a token of another expert is no error of the experts."""

    def __init__(self):
        self.indices, self.follow = {}, False

    def watch(self, model):
        for name, module in model.named_modules():
            down = getattr(module, "down_proj", None)
            if isinstance(down, torch.nn.Parameter) and down.dim() == 3:
                module.register_forward_pre_hook(self._hook(name))

    def _hook(self, name):
        place = name.replace("base_model.model.", "").replace(".base_layer", "")

        def hook(_module, arguments):
            hidden, index, weights = arguments
            if self.follow:
                return hidden, self.indices[place].to(index.device), weights
            self.indices[place] = index.cpu()

        return hook


def results(folder, part, implementation, dtype=torch.float32, device="cpu", routing=None):
    """{name: tensor} of the same names, on the CPU, as the model computes them now."""
    source = folder / "model"
    config = transformers.AutoConfig.from_pretrained(source)
    options = dict(dtype=dtype, attn_implementation="eager")
    model = load(config, source, experts_implementation=implementation, **options)
    if part != "model":
        model = peft.PeftModel.from_pretrained(
            model, folder / part, is_trainable=True, autocast_adapter_dtype=False
        ).eval()
    model = model.to(device=device)
    if routing is not None:
        routing.watch(model)
    inputs = load_file(folder / "inputs.safetensors")
    ids, labels = inputs["input_ids"].to(device), inputs["labels"].to(device)
    logits, loss = loss_of(model, ids, labels)
    loss.backward()
    return {"logits": logits.detach().cpu(), "loss": loss.detach().cpu()} | {
        "grad." + name.replace(".default", ""): p.grad.cpu()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def distance(got, want) -> float:
    """||got - want|| / ||want||; 0 when both are 0."""
    off = (got.double() - want.double()).norm().item()
    size = want.double().norm().item()
    return off / size if size else off


def is_own(name) -> bool:
    """Whether the experts layer computes this tensor, or the output is made of it."""
    return not name.startswith("grad.") or ".experts." in name


def errors_in_f32(got, want, eager):
    """[(error by bound, name, error)] of each tensor; eager() gives transformers' own results."""
    errors = {name: relative_error(got[name], want[name]) for name in want}
    bounds = dict.fromkeys(want, 1e-4)
    if max(errors.values()) > 1e-4:
        theirs = eager()
        bounds = {name: max(1e-4, 2 * relative_error(theirs[name], want[name])) for name in want}
    return [(errors[name] / bounds[name], name, errors[name]) for name in want]


def errors_in_bf16(got, naive, want):
    """[(error by bound, name, error)]: each tensor of is_own; the other layers' gradients, which
    are functions of it and as noisy as bf16 makes them, together."""
    rows, others = [], []
    for name in want:
        error = distance(got[name], want[name])
        other = max(distance(one[name], want[name]) for one in naive)
        if is_own(name):
            rows.append((error / (2 * other + 2**-8), name, error))
        else:
            others.append((error**2, other**2))
    if others:
        error, other = (math.sqrt(sum(column) / len(others)) for column in zip(*others))
        rows.append((error / (2 * other + 2**-8), "the other layers' gradients", error))
    return rows


def check(folder, part, implementations, dtype, device):
    """Yields (implementation, error by bound, tensor, error) of the worst tensor, above 1 off; or
    (implementation, the refusal)."""
    want, routing, naive = golden_data(folder, part), None, None
    if dtype != torch.float32:
        routing = Routing()
        results(folder, part, "eager", torch.float32, device, routing)
        routing.follow = True
        naive = [results(folder, part, c, dtype, device, routing) for c in ("eager", "double")]
    for implementation in implementations:
        try:
            got = results(folder, part, implementation, dtype, device, routing)
        except moesmith.UnsupportedError as error:
            yield implementation, str(error)
            continue
        missing = want.keys() - got.keys()
        assert not missing, f"no gradient of {sorted(missing)}"
        if naive is None:
            rows = errors_in_f32(got, want, lambda: results(folder, part, "eager", dtype, device))
        else:
            rows = errors_in_bf16(got, naive, want)
        yield (implementation, *max(rows))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    for name, value in (
        ("dtype", "f32"),
        ("implementation", "moesmith"),
        ("part", ",".join(PARTS)),
    ):
        parser.add_argument(f"--{name}", default=value, help="a list, as in a,b")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    moesmith.register()
    _forward.FUNCTIONS["double"] = in_double
    ALL_EXPERTS_FUNCTIONS.register("double", in_double)
    print(
        f"moesmith {moesmith.__version__}, transformers {transformers.__version__}, peft "
        f"{peft.__version__}, torch {torch.__version__}, "
        + (torch.cuda.get_device_name() if options.device == "cuda" else "cpu")
    )
    found = [f for root in options.folders for f in sorted(root.glob("**/experts.safetensors"))]
    names, off, run = options.implementation.split(","), 0, 0
    for dtype in options.dtype.split(","):
        for folder, part in itertools.product((f.parent for f in found), options.part.split(",")):
            for row in check(folder, part, names, DTYPES[dtype], options.device):
                head = f"{dtype:4} {folder.name:30} {part:15} {row[0]:10}"
                if len(row) == 2:
                    print(f"{head} refused: {row[1]}", flush=True)
                    continue
                _, share, tensor, error = row
                run, off = run + 1, off + (share > 1)
                verdict = "ok " if share <= 1 else "OFF"
                print(f"{head} {verdict} {error:.1e}, {share:.2f} of the bound: {tensor}",
                      flush=True)  # fmt: skip
    print(f"{run} runs, {off} off")
    sys.exit(1 if off or not run else 0)


if __name__ == "__main__":
    main()
