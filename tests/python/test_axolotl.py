# SPDX-License-Identifier: Apache-2.0
"""The plug-in for Axolotl, against a thin stand-in for what its published source does with one:
load the class by name, mix its arguments into the configuration class, call the hooks in order."""

import importlib
import logging
from types import SimpleNamespace

import pytest
import torch

import moesmith
from support import expert_targets, tiny_model

pydantic = pytest.importorskip("pydantic")


class Base(pydantic.BaseModel):
    """Keys of Axolotl's own schema that the rules look at."""

    experts_implementation: str | None = None
    plugins: list[str] | None = None
    quantize_moe_experts: bool = False
    fp16: bool | None = None
    adapter: str | None = None
    lora_target_parameters: str | list[str] | None = None


class Config(SimpleNamespace):
    def __getattr__(self, name):  # a missing key is None, as in Axolotl
        return None


def load(plugin_name="moesmith.axolotl.MoesmithPlugin"):
    module, _, name = plugin_name.rpartition(".")
    return getattr(importlib.import_module(module), name)()


def validated(**keys):
    module, _, name = load().get_input_args().rpartition(".")
    arguments = getattr(importlib.import_module(module), name)
    merged = type("AxolotlInputConfig", (Base, arguments), {})
    return Config(**merged(**keys).model_dump())


def implementation(**keys):
    return validated(**keys).experts_implementation


def error(**keys):
    with pytest.raises(pydantic.ValidationError) as caught:
        validated(**keys)
    return str(caught.value)


def test_what_the_keys_mean():
    assert implementation() == "moesmith"
    assert implementation(use_kernels=True) == "moesmith"
    assert implementation(experts_implementation="auto") == "moesmith"
    for name in ("eager", "batched_mm", "grouped_mm", "scattermoe", "sonicmoe", "moesmith"):
        assert implementation(experts_implementation=name) == name
    assert implementation(use_scattermoe=True) == "scattermoe"
    assert implementation(use_sonicmoe="yes") == "sonicmoe"
    assert implementation(use_scattermoe="false", use_sonicmoe="true") == "sonicmoe"
    assert implementation(use_scattermoe=True, experts_implementation="scattermoe") == "scattermoe"
    assert implementation(use_scattermoe=False, use_sonicmoe=False) == "moesmith"
    assert implementation(expert_parallel_size="1") == "moesmith"


@pytest.mark.parametrize(
    "keys, text",
    [
        (
            dict(use_scattermoe=True, use_sonicmoe=True),
            "use_sonicmoe asks for sonicmoe, but use_scattermoe for scattermoe; give one",
        ),
        (
            dict(experts_implementation="eager", use_scattermoe=True),
            "use_scattermoe asks for scattermoe, but experts_implementation for eager",
        ),
        (
            dict(experts_implementation="scattermoe", use_scattermoe="false"),
            "use_scattermoe: false contradicts experts_implementation: scattermoe",
        ),
        (dict(use_kernels=False, use_sonicmoe=True), "use_kernels: false contradicts use_sonicmoe"),
        (dict(experts_implementation="scatermoe"), "did you mean scattermoe?"),
        (dict(experts_implementation="deep_ep"), "several processes"),
        (dict(expert_parallel_size="2"), "expert_parallel_size: got 2, expected 1"),
        (dict(use_scattermoe="perhaps"), "use_scattermoe"),
        (dict(quantize_moe_experts=True), "quantize_moe_experts"),
        (dict(fp16=True), "use bf16: true"),
        (
            dict(plugins=["axolotl.integrations.kernels.KernelsPlugin"]),
            "KernelsPlugin beside MoesmithPlugin",
        ),
    ],
)
def test_what_cannot_work_is_refused(keys, text):
    assert text in error(**keys)


def test_the_hooks_of_a_run(caplog):
    peft = pytest.importorskip("peft")
    cfg = validated(adapter="lora", lora_target_parameters=["mlp.experts.down_proj"])
    plugin = load()
    plugin.pre_model_load(cfg)
    model = tiny_model("qwen3_moe")
    model.set_experts_implementation(cfg.experts_implementation)
    plugin.post_model_build(cfg, model)
    lora = peft.LoraConfig(target_modules=[], target_parameters=[expert_targets(model)[1]])
    model = peft.get_peft_model(model, lora)
    plugin.post_lora_load(cfg, model)
    with caplog.at_level(logging.INFO, "moesmith"):
        plugin.post_model_load(cfg, model)
    assert "fused: yes" in caplog.text and "scattermoe (" in caplog.text
    cfg.lora_target_parameters = ["experts.gate_up_proj"]
    with pytest.raises(ValueError, match="experts.gate_up_proj matches no parameter"):
        plugin.post_lora_load(cfg, model)


def test_sonicmoe_is_refused_at_the_start():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(moesmith.UnsupportedError, match="Hopper"):
        load().pre_model_load(validated(use_sonicmoe=True))


def test_a_model_without_experts_is_refused():
    cfg = validated()
    with pytest.raises(ValueError, match="no experts module that takes one"):
        load().post_model_build(cfg, torch.nn.Linear(2, 2))


def test_an_old_peft_is_refused(monkeypatch):
    from moesmith import _private

    releases = {"peft": (0, 19, 0), "transformers": (5, 17, 0)}
    monkeypatch.setattr(_private, "release_of", releases.get)
    with pytest.raises(ImportError, match="peft: got 0.19.0, expected 0.19.1"):
        load().pre_model_load(validated(adapter="lora"))
