# SPDX-License-Identifier: Apache-2.0
"""Each name of another package that is not public, as _private.py and _peft.py rely on it. When
one of these fails, a release has moved it: _private.py is the file to mend."""

import ast
import inspect
import pathlib

import pytest
import torch
from transformers.integrations import moe

import moesmith
from moesmith import _private
from support import expert_targets, experts_module, tiny_model

PACKAGE = pathlib.Path(moesmith.__file__).parent


def test_torch_runs_a_function_beside_the_trace():
    seen = []

    def note(context):
        seen.append(_private.value_of(context, "thing"))

    def traced(x, thing):
        _private.beside_the_trace(note)
        return x + thing.bias

    module = torch.nn.Linear(2, 2)
    torch.compiler.reset()
    torch.compile(traced, backend="eager", fullgraph=True)(torch.ones(2), module)
    assert seen == [module]


def test_transformers_registry():
    registry = moe.ALL_EXPERTS_FUNCTIONS
    assert isinstance(registry, moe.ExpertsInterface)
    assert inspect.ismethod(type(registry).register), "register is a method of the class"


def test_transformers_experts_modules():
    model = tiny_model("gpt_oss")
    model.set_experts_implementation("moesmith")
    _, module = experts_module(model)
    assert _private.implementation_of(module) == "moesmith"
    assert callable(_private.gate_of(module))
    for flag in ("has_gate", "has_bias", "is_transposed", "is_concatenated"):
        assert isinstance(getattr(module, flag), bool), flag
    for name in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"):
        assert isinstance(getattr(module, name), torch.nn.Parameter), name


def test_peft_param_wrapper():
    peft = pytest.importorskip("peft")
    kind = _private.param_wrapper()
    assert list(inspect.signature(kind.forward).parameters) == ["self", "x", "args", "kwargs"]
    model = tiny_model("qwen3_moe")
    gate_up, down = expert_targets(model)
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=[gate_up, down])
    wrapped = peft.get_peft_model(model, config)
    outer, inner = [m for m in wrapped.modules() if isinstance(m, kind)][:2]
    assert (outer.parameter_name, inner.parameter_name) == ("down_proj", "gate_up_proj")
    assert outer.base_layer is inner and outer.get_base_layer() is inner.base_layer
    assert _private.base_of(outer) is _private.base_of(inner) is inner.base_layer
    assert outer.num_experts == 8 and outer.get_param().dim() == 3
    assert outer.active_adapters == ["default"] and not outer.merged and not outer.disable_adapters
    assert outer.r["default"] == 2 and isinstance(outer.scaling["default"], float)
    assert outer.lora_A["default"].weight.shape == (2 * 8, 32)
    assert outer.lora_B["default"].weight.shape == (64, 2 * 8)


@pytest.mark.parametrize(
    "text, release",
    [
        ("0.19.1", (0, 19, 1)),
        ("0.21.0.dev0", (0, 21, 0)),
        ("5.7", (5, 7)),
        ("0.20.0rc1", (0, 20, 0)),
    ],
)
def test_versions(monkeypatch, text, release):
    monkeypatch.setattr(_private.importlib.metadata, "version", lambda package: text)
    assert _private.release_of("peft") == release


def test_there_is_no_other_private_name():
    """Imports of transformers, PEFT and Axolotl outside _private.py are of public names."""
    found = []
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *[a.name for a in node.names]]
                if node.module.split(".")[0] in ("transformers", "peft", "axolotl"):
                    found.append((path.name, *names))
    private = [
        entry
        for entry in found
        if entry[0] != "_private.py"
        and (any(part.startswith("_") for name in entry[1:] for part in name.split(".")))
    ]
    assert private == []
    assert {entry[1] for entry in found if entry[0] != "_private.py"} <= {
        "transformers.integrations.moe",
        "axolotl.integrations.base",
    }
