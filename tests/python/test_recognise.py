# SPDX-License-Identifier: Apache-2.0
"""What a module of transformers computes: recognised for every decorated class, never guessed."""

import importlib
import inspect
import pathlib
import re
import typing
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers
from transformers.integrations import use_experts_implementation

import moesmith
from moesmith._recognise import recognise
from support import assert_close, experts_module, tiny_model

MODELS = pathlib.Path(transformers.__file__).parent / "models"
# Experts that do more than the kernels know; refused, with the reason, instead of run wrongly.
REFUSED = {"Inkling2Experts", "Inkling2LoopExperts", "MuseSparkExperts"}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_experts": 6,
    "num_local_experts": 6,
    "n_routed_experts": 6,
    "moe_num_experts": 6,
    "num_zero_experts": 0,
}


def decorated_classes():
    """(module, class) of every experts class of the installed transformers."""
    found = []
    for path in sorted(MODELS.glob("*/modeling_*.py")):
        text = path.read_text()
        for name in re.findall(
            r"^@use_experts_implementation[^@]*?^class (\w+)", text, re.M | re.S
        ):
            found.append((f"transformers.models.{path.parent.name}.{path.stem}", name))
    return found


def with_experts(config):
    """The first of a configuration and those inside it that counts experts."""
    counts = [name for name in SIZES if "experts" in name or name == "n_routed_experts"]
    if any(hasattr(config, name) for name in counts):
        return config
    inner = [v for v in vars(config).values() if isinstance(v, transformers.PretrainedConfig)]
    return next((found for one in inner if (found := with_experts(one)) is not None), None)


def make(module_name, class_name):
    """One experts module of the class, small, with random weights."""
    module = importlib.import_module(module_name)
    cls = getattr(module, class_name)
    kind = typing.get_type_hints(cls.__init__, vars(module)).get("config")
    kinds = [kind] if kind else []
    kinds += [v for k, v in vars(module).items() if k.endswith("Config") and isinstance(v, type)]
    config = next(found for k in kinds if (found := with_experts(k())) is not None)
    for name, value in SIZES.items():
        if hasattr(config, name) and not isinstance(getattr(config, name), list):
            setattr(config, name, value)
    takes_size = "intermediate_size" in inspect.signature(cls.__init__).parameters
    experts = cls(config, intermediate_size=16) if takes_size else cls(config)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(std=0.5)
    return experts


@pytest.mark.parametrize("module_name, class_name", decorated_classes(), ids=lambda v: v)
def test_every_decorated_class(module_name, class_name):
    try:
        experts = make(module_name, class_name)
    except ImportError as error:
        pytest.skip(f"needs another package: {error}")
    num_experts = experts.down_proj.shape[0]
    hidden = experts.down_proj.shape[2 if experts.is_transposed else 1]
    x = torch.randn(40, hidden, requires_grad=True)
    w, index = torch.rand(40, num_experts).topk(2)
    dy = torch.randn(40, hidden)
    if class_name in REFUSED:
        experts.config._experts_implementation = "moesmith"
        with pytest.raises(moesmith.UnsupportedError, match='grouped_mm" or "eager"'):
            experts(x, index, w)
        return
    results = []
    for implementation in ("eager", "moesmith"):
        experts.config._experts_implementation = implementation
        y = experts(x, index, w)
        results.append([y, *torch.autograd.grad(y, [x, *experts.parameters()], dy)])
    for number, (got, want) in enumerate(zip(results[1], results[0])):
        assert_close(f"{class_name} tensor {number}", got, want)


def test_there_are_many():
    assert len(decorated_classes()) >= 50


@pytest.mark.parametrize(
    "family, activation, limit, alpha, interleaved, transposed, gated",
    [
        ("qwen3_moe", "silu", None, 1.0, False, False, True),
        ("gpt_oss", "silu", 7.0, 1.702, True, True, True),
        ("gemma4_text", "gelu_tanh", None, 1.0, False, False, True),
        ("nemotron_h", "relu2", None, 1.0, False, False, False),
    ],
)
def test_the_layer_of_a_family(family, activation, limit, alpha, interleaved, transposed, gated):
    layer = recognise(experts_module(tiny_model(family))[1], "auto")
    assert (layer.activation, layer.gate_max, layer.alpha) == (activation, limit, alpha)
    assert (layer.interleaved, layer.transposed, layer.gated) == (interleaved, transposed, gated)
    assert layer.up_shift == (1.0 if family == "gpt_oss" else 0.0)


def custom(gate=None, act_fn=F.silu, **flags):
    """An experts module of a class of our own, as a model author writes it."""

    @use_experts_implementation(**flags)
    class Experts(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.act_fn = act_fn
            self.limit = 2.0
            self.gate_up_proj = torch.nn.Parameter(torch.randn(3, 8, 6))
            self.down_proj = torch.nn.Parameter(torch.randn(3, 6, 4))

        def forward(self, *args):
            raise AssertionError("not ours")

        if gate is not None:
            _apply_gate = gate

    return Experts(SimpleNamespace(_experts_implementation="moesmith"))


def call(module, tokens=5):
    return module(
        torch.randn(tokens, 6), torch.zeros(tokens, 1, dtype=torch.long), torch.rand(tokens, 1)
    )


def swapped(self, h):
    up, gate = h.chunk(2, dim=-1)
    return F.silu(gate) * up


def limited_value(self, h):  # the limit on the activation's value: none of ours does that
    gate, up = h.chunk(2, dim=-1)
    return F.silu(gate).clamp(max=self.limit) * up


def only_up_limited(self, h):
    gate, up = h.chunk(2, dim=-1)
    return F.gelu(gate) * up.clamp(-self.limit, self.limit)


@pytest.mark.parametrize("gate", [swapped, limited_value, lambda self, h: h[..., :4] * h[..., 5:]])
def test_an_unknown_gate_is_refused_with_what_to_use(gate):
    with pytest.raises(moesmith.UnsupportedError, match='grouped_mm" or "eager"'):
        call(custom(gate))


def test_an_unknown_activation_is_refused():
    with pytest.raises(moesmith.UnsupportedError, match="act_fn tanh.*none of the formulas"):
        call(custom(act_fn=torch.tanh))


def test_a_gate_of_a_new_class_is_recognised_by_what_it_does():
    layer = recognise(custom(only_up_limited), "auto")
    assert (layer.activation, layer.gate_max, layer.up_limit) == ("gelu", None, 2.0)


def test_a_changed_limit_is_seen():
    module = custom(only_up_limited)
    call(module)
    module.limit = 3.0
    call(module)
    assert module._moesmith_layer.up_limit == 3.0


@pytest.mark.parametrize(
    "name, value",
    [
        ("has_post_expert_norm", True),
        ("norm", torch.nn.Identity()),
        ("scale", torch.nn.Parameter(torch.ones(6))),
    ],
)
def test_a_part_that_would_be_left_out_is_named(name, value):
    module = custom()
    setattr(module, name, value)
    with pytest.raises(moesmith.UnsupportedError, match=f"it has {name}, which the kernels"):
        call(module)


def test_a_missing_parameter_is_named():
    module = custom()
    module.up_proj = module.gate_up_proj
    del module.gate_up_proj
    with pytest.raises(moesmith.UnsupportedError, match="has no gate_up_proj"):
        call(module)


def test_sonicmoe_says_why_not_here():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    module = custom()
    module.config._experts_implementation = "sonicmoe"
    with pytest.raises(moesmith.UnsupportedError, match="needs a Hopper GPU"):
        call(module)
