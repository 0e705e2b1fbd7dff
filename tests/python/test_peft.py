# SPDX-License-Identifier: Apache-2.0
"""PEFT's LoRA on expert parameters: every state of an adapter, and W + delta never built."""

import contextlib

import pytest
import torch

import moesmith
from moesmith import _peft, _private
from support import assert_close, expert_targets, experts_module, loss_of, tiny_model

peft = pytest.importorskip("peft")
FAMILY = "qwen3_moe_nonsquare"


@contextlib.contextmanager
def nothing_built():
    """Fails when PEFT forms a delta of the size of a weight, or puts one on a parameter."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("W + delta was built")

    kind = _private.param_wrapper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "get_delta_weight", refuse)
        patch.setattr(torch.nn.utils.parametrize, "register_parametrization", refuse)
        yield


def adapted(family=FAMILY, targets=None, adapters=("default",), autocast=True, **config):
    model = tiny_model(family)
    config = {"r": 3, "lora_alpha": 6, "target_modules": []} | config
    config["target_parameters"] = targets or list(expert_targets(model))
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(**config), adapter_name=adapters[0], autocast_adapter_dtype=autocast
    )
    for name in adapters[1:]:
        wrapped.add_adapter(name, peft.LoraConfig(**config | {"r": config["r"] + 1}))
    for name, p in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.2)
    return wrapped.eval()


def step(model, implementation):
    """(logits, {name: gradient}) of one fixed batch."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, model.config.vocab_size, (2, 17), generator=generator)
    model.set_experts_implementation(implementation)
    model.zero_grad(set_to_none=True)
    logits, loss = loss_of(model, ids, ids)
    if loss.requires_grad:
        loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


def compare(model, fused=True):
    want, want_grads = step(model, "eager")
    with nothing_built() if fused else contextlib.nullcontext():
        got, got_grads = step(model, "moesmith")
    assert_close("logits", got, want)
    assert got_grads.keys() == want_grads.keys()
    for name, gradient in want_grads.items():
        assert_close(name, got_grads[name], gradient)
    return got


def test_each_target_has_its_own_rank_and_scale():
    rank, alpha = {"experts.down_proj": 5}, {"experts.gate_up_proj": 1}
    model = adapted(rank_pattern=rank, alpha_pattern=alpha)
    kinds = {w.parameter_name: w for w in wrappers(model)}
    down, gate_up = kinds["down_proj"], kinds["gate_up_proj"]
    assert down.r["default"] == 5 and gate_up.r["default"] == 3
    assert down.scaling["default"] != gate_up.scaling["default"]
    compare(model)


def wrappers(model):
    return [m for m in model.modules() if isinstance(m, _private.param_wrapper())]


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"init_lora_weights": "gaussian"}])
def test_options_of_lora(options):
    compare(adapted(**options))


def test_with_adapters_on_attention_and_router():
    model = tiny_model(FAMILY)
    targets = [*expert_targets(model), "mlp.gate.weight"]
    compare(adapted(targets=targets, target_modules=["q_proj", "v_proj"]), fused=False)


@pytest.mark.parametrize("part", [0, 1])
def test_one_target(part):
    compare(adapted(targets=[expert_targets(tiny_model(FAMILY))[part]]))


def test_disabled_adapters_are_the_base_model():
    model = adapted()
    base = tiny_model(FAMILY)
    with model.disable_adapter():
        got = compare(model)
    assert_close("logits", got, step(base, "moesmith")[0], 0)
    assert (compare(model) - got).abs().max() > 1e-3


def test_merged_adapters():
    model = adapted()
    want = compare(model)
    model.merge_adapter()
    assert_close("merged", compare(model), want)
    model.unmerge_adapter()
    assert_close("unmerged", compare(model), want)
    merged = model.merge_and_unload()
    assert_close("unloaded", step(merged, "moesmith")[0], want)


def test_one_of_several_adapters_is_active():
    model = adapted(adapters=("first", "second"))
    model.set_adapter("first")
    first = compare(model)
    model.set_adapter("second")
    second = compare(model)
    assert (first - second).abs().max() > 1e-3


def test_several_active_adapters_are_summed():
    model = adapted(adapters=("first", "second"))
    one = compare(model)
    model.base_model.set_adapter(["first", "second"])
    assert (compare(model) - one).abs().max() > 1e-3


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    model = adapted().train()
    want, want_grads = step(model, "moesmith")
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    with nothing_built():
        got, grads = step(model, "moesmith")
    assert torch.equal(got, want)
    for name, gradient in want_grads.items():
        assert torch.equal(grads[name], gradient), name


def test_autocast_keeps_f32_adapters_over_a_bf16_base():
    model = adapted(autocast=True)
    want, want_grads = step(model, "eager")
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    with nothing_built(), torch.autocast("cpu", dtype=torch.bfloat16):
        got, grads = step(model, "moesmith")
    assert torch.isfinite(got).all() and (got - want).abs().max() / want.abs().max() < 0.3
    for name, gradient in grads.items():
        assert gradient.dtype == torch.float32 and torch.isfinite(gradient).all(), name
    assert grads.keys() == want_grads.keys()


def test_base_weights_may_be_trained_too():
    model = adapted()
    for name, parameter in model.named_parameters():
        if name.endswith(("gate_up_proj", "down_proj")):
            parameter.requires_grad_(True)
    compare(model)


def test_saved_adapters_reload_and_match(tmp_path):
    model = adapted()
    want = compare(model)
    model.save_pretrained(tmp_path)
    base = tiny_model(FAMILY)
    base.set_experts_implementation("scattermoe")
    again = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    assert torch.equal(step(again, "moesmith")[0], want)
    stock = {k for k in peft.get_peft_model_state_dict(model)}
    assert any(k.endswith("experts.base_layer.lora_A.weight") for k in stock)
    assert any(k.endswith("experts.lora_B.weight") for k in stock)


def test_other_implementations_stay_pefts():
    """With grouped_mm PEFT's own forward runs: nothing of ours changes it."""
    model = adapted()
    with pytest.raises(AssertionError, match="was built"), nothing_built():
        step(model, "grouped_mm")
    assert_close("logits", step(model, "grouped_mm")[0], step(model, "eager")[0])


def test_install_is_idempotent():
    forward = _private.param_wrapper().forward
    moesmith.register()
    moesmith.register()
    assert _private.param_wrapper().forward is forward


def test_an_old_peft_is_refused_with_the_reason(monkeypatch):
    kind = _private.param_wrapper()
    stock = getattr(kind.forward, _peft._MARK)
    model = adapted()
    monkeypatch.setattr(kind, "forward", stock)
    monkeypatch.setattr(_private, "release_of", lambda package: (0, 18, 1))
    _peft.install()
    with pytest.raises(moesmith.UnsupportedError, match="peft: got 0.18.1, expected 0.19.1"):
        step(model, "moesmith")
    step(model, "eager")


def test_an_error_leaves_nothing_behind():
    model = adapted()
    _, module = experts_module(model)
    wrapper = wrappers(model)[0]
    model.set_experts_implementation("moesmith")
    with pytest.raises(moesmith.InvalidInputError):
        wrapper(torch.randn(4, 3), torch.zeros(4, 2, dtype=torch.long), torch.rand(4, 2))
    assert not getattr(module, "_moesmith_adapters", {})
