# SPDX-License-Identifier: Apache-2.0
"""What the tests share: an oracle in plain torch, tiny models of every family, comparisons."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
import sys

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

import moesmith

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "goldens"
ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


def golden_folders() -> list[pathlib.Path]:
    """The golden data of the tree and of the folders in $MOESMITH_GOLDENS (`:` between)."""
    roots = [
        DATA,
        *map(pathlib.Path, filter(None, os.environ.get("MOESMITH_GOLDENS", "").split(":"))),
    ]
    return sorted(f.parent for root in roots for f in root.glob("*/experts.safetensors"))


def _make_goldens():
    """make_goldens.py as a module: it has the tiny configuration of each family."""
    spec = importlib.util.spec_from_file_location("make_goldens", DATA / "make_goldens.py")
    module = importlib.util.module_from_spec(spec)
    arguments, sys.argv = sys.argv, ["make_goldens.py", "unused", "1", "plain"]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.argv = arguments
    return module


def family_configs() -> dict[str, tuple[str, dict]]:
    """name: (model_type, configuration) of the families and of the special cases."""
    goldens = _make_goldens()
    plain = {name: (name, options) for name, options in goldens.FAMILIES.items()}
    return plain | {name: case[:2] for name, case in goldens.EXTRAS.items()}


def load(config, folder=None, **options):
    """A causal model, also of a class that AutoModelForCausalLM does not list (mistral4)."""
    try:
        if folder is None:
            return AutoModelForCausalLM.from_config(config, **options).eval()
        return AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    except ValueError as error:
        if "Unrecognized configuration" not in str(error):
            raise
    kind = type(config).__name__.removesuffix("Config") + "ForCausalLM"
    module = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    cls = getattr(module, kind)
    if folder is None:
        return cls._from_config(config, **options).eval()
    return cls.from_pretrained(folder, **options).eval()


def tiny_model(name: str, seed: int = 0, **options):
    """A model of family_configs()[name] with random weights large enough to tell formulas apart."""
    model_type, config = family_configs()[name]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **config)
    model = load(config, attn_implementation="eager", dtype=torch.float32, **options)
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if p.dim() >= 2:
                p.normal_(std=0.25 if p.dim() == 3 else 0.12)
            elif "bias" in parameter_name or "sinks" in parameter_name:
                p.normal_(std=0.1)
    return model


def experts_module(model):
    """(name, module) of the first module with fused experts."""
    for name, module in model.named_modules():
        down = getattr(module, "down_proj", None)
        if isinstance(down, torch.nn.Parameter) and down.dim() == 3:
            return name, module
    raise AssertionError("the model has no fused experts")


def expert_targets(model) -> tuple[str, str]:
    """How LoraConfig's target_parameters names the two projections."""
    name, module = experts_module(model)
    *_, parent, own = name.split(".")
    leaf = f"{parent}.{own}" if parent.isalpha() else own
    first = "gate_up_proj" if hasattr(module, "gate_up_proj") else "up_proj"
    return f"{leaf}.{first}", f"{leaf}.down_proj"


def loss_of(model, ids, labels):
    """(logits, loss): the mean over shifted labels, plus the load-balancing loss if configured."""
    output = model(input_ids=ids, use_cache=False)
    logits = output.logits.float()
    loss = F.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100
    )
    if getattr(model.config, "output_router_logits", False):
        loss = loss + model.config.router_aux_loss_coef * output.aux_loss
    return logits, loss


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """max |got - want| / max |want|; 0 when both are 0 everywhere."""
    largest = want.detach().abs().max().item() if want.numel() else 0.0
    error = (got.detach().double() - want.detach().double()).abs()
    error = error.max().item() if error.numel() else 0.0
    return error / largest if largest else error


def assert_close(name: str, got: torch.Tensor, want: torch.Tensor, bound: float = 1e-4) -> None:
    assert got.shape == want.shape, f"{name}: {got.shape} instead of {want.shape}"
    assert torch.isfinite(got).all(), f"{name}: not finite"
    error = relative_error(got, want)
    assert error <= bound, f"{name}: off by {error:.2e} of its largest value, bound {bound:.0e}"


def oracle(x, index, w, gate_up, down, layer=None, b1=None, b2=None, lora1=None, lora2=None):
    """The layer as a double loop over tokens and slots; differentiable, any dtype."""
    layer = layer or moesmith.Layer()
    num_experts = gate_up.shape[0]

    def effective(weight, adapter):
        if adapter is None:
            return weight
        a = adapter.a.reshape(num_experts, -1, adapter.a.shape[1])
        b = adapter.b.reshape(adapter.b.shape[0], -1, num_experts)
        delta = torch.einsum("ore,eri->eoi", b, a) * adapter.scale
        return weight + (delta.transpose(1, 2) if layer.transposed else delta)

    def product(weight, row):
        return row @ weight if layer.transposed else weight @ row

    gate_up, down = effective(gate_up, lora1), effective(down, lora2)
    rows = []
    for t in range(x.shape[0]):
        total = torch.zeros_like(x[t])
        for k in range(index.shape[1]):
            e = int(index[t, k])
            if not 0 <= e < num_experts:
                continue
            h = product(gate_up[e], x[t])
            h = h if b1 is None else h + b1[e]
            if layer.gated:
                g, u = (h[::2], h[1::2]) if layer.interleaved else h.chunk(2)
                u = u if layer.up_limit is None else u.clamp(-layer.up_limit, layer.up_limit)
            else:
                g, u = h, 1.0 - layer.up_shift
            g = g if layer.gate_max is None else g.clamp(max=layer.gate_max)
            if layer.activation == "silu":
                act = g * torch.sigmoid(layer.alpha * g)
            else:
                act = ACTIVATIONS[layer.activation](g)
            y = product(down[e], act * (u + layer.up_shift))
            total = total + w[t, k] * (y if b2 is None else y + b2[e])
        rows.append(total)
    return torch.stack(rows) if rows else x * 1


def leaf(*shape, dtype=torch.float32, scale=1.0):
    return (torch.randn(*shape, dtype=dtype) * scale).requires_grad_()
