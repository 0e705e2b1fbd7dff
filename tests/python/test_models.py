# SPDX-License-Identifier: Apache-2.0
"""What a user does with a model: load, switch, generate, train, look at the report."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import moesmith
from moesmith import _forward
from support import assert_close, expert_targets, experts_module, loss_of, tiny_model


def test_register_is_idempotent():
    before = {name: ALL_EXPERTS_FUNCTIONS[name] for name in _forward.FUNCTIONS}
    moesmith.register()
    assert before == {name: ALL_EXPERTS_FUNCTIONS[name] for name in _forward.FUNCTIONS}
    assert before == _forward.FUNCTIONS
    assert "grouped_mm" in ALL_EXPERTS_FUNCTIONS


def test_an_entry_of_the_instance_does_not_hide_ours():
    ALL_EXPERTS_FUNCTIONS["scattermoe"] = lambda *_: None
    try:
        moesmith.register()
        assert ALL_EXPERTS_FUNCTIONS["scattermoe"] is _forward.FUNCTIONS["scattermoe"]
    finally:
        del ALL_EXPERTS_FUNCTIONS["scattermoe"]
    assert ALL_EXPERTS_FUNCTIONS["scattermoe"] is _forward.FUNCTIONS["scattermoe"]


@pytest.mark.parametrize("name", ["moesmith", "scattermoe"])
def test_from_pretrained_takes_the_name(tmp_path, monkeypatch, name):
    model = tiny_model("qwen3_moe")
    model.set_experts_implementation("eager")
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 250, (1, 9))
    want = model(ids).logits
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation=name).eval()
    calls, experts = [], _forward.experts
    monkeypatch.setattr(_forward, "experts", lambda *a, **k: calls.append(k) or experts(*a, **k))
    assert_close("logits", loaded(ids).logits, want)
    expected = "auto" if name == "moesmith" else name
    assert [k["layer"].implementation for k in calls] == [expected] * 2
    loaded.set_experts_implementation("eager")
    assert_close("logits", loaded(ids).logits, want)
    assert len(calls) == 2


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "gemma4_text"])
def test_generate_gives_the_tokens_of_eager(family):
    model = tiny_model(family)
    ids = torch.randint(3, 250, (2, 7))
    options = dict(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    model.set_experts_implementation("eager")
    want = model.generate(ids, **options)
    model.set_experts_implementation("moesmith")
    assert torch.equal(model.generate(ids, **options), want)


def train(implementation, steps=30):
    """(losses, model) of AdamW on LoRA over attention and experts, one batch a step."""
    peft = pytest.importorskip("peft")
    model = tiny_model("qwen3_moe")
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj"],
        target_parameters=list(expert_targets(model)),
    )
    model = peft.get_peft_model(model, config).train()
    model.set_experts_implementation(implementation)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses, batches = [], torch.randint(3, 64, (3, 2, 24))
    for step in range(steps):
        ids = batches[step % 3]
        _, loss = loss_of(model, ids, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def test_thirty_steps_follow_grouped_mm():
    ours, model = train("moesmith")
    theirs, _ = train("grouped_mm")
    assert ours[-1] < ours[0] - 0.5
    for step, (a, b) in enumerate(zip(ours, theirs)):
        assert abs(a - b) <= 1e-4 * abs(b), f"step {step}: {a} instead of {b}"
    untouched = dict(tiny_model("qwen3_moe").named_parameters())
    compared = 0
    for name, p in model.named_parameters():
        if "lora_" not in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(p, untouched[plain]), f"{name} has changed"
            compared += 1
    assert compared == len(untouched)


def test_full_training_follows_grouped_mm():
    curves = []
    for implementation in ("moesmith", "grouped_mm"):
        model = tiny_model("mixtral").train()
        model.set_experts_implementation(implementation)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        torch.manual_seed(5)
        losses = []
        for _ in range(10):
            ids = torch.randint(3, 64, (2, 24))
            _, loss = loss_of(model, ids, ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[0][-1] < curves[0][0]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_report_of_a_plain_model():
    model = tiny_model("qwen3_moe")
    model.set_experts_implementation("moesmith")
    rows = moesmith.report(model)
    assert [row.name for row in rows] == [f"model.layers.{i}.mlp.experts" for i in range(2)]
    assert rows[0].kind == "Qwen3MoeExperts" and rows[0].implementation == "moesmith"
    assert rows[0].runs.startswith("scattermoe") and "E=8" in rows[0].runs
    assert rows[0].fused is None and rows[0].adapters == ()
    model.set_experts_implementation("grouped_mm")
    assert "grouped_mm: transformers' own" in str(moesmith.report(model))
    assert str(moesmith.report(torch.nn.Linear(2, 2))) == "no module with fused experts"


def test_report_says_why_nothing_runs():
    model = tiny_model("qwen3_moe")
    model.set_experts_implementation("sonicmoe")
    if not torch.cuda.is_available():
        assert "Hopper" in moesmith.report(model)[0].runs
    model.set_experts_implementation("moesmith")
    _, module = experts_module(model)
    module.act_fn = torch.nn.Tanh()
    assert "none of the formulas" in moesmith.report(model)[0].runs


def test_report_of_adapters():
    peft = pytest.importorskip("peft")
    model = tiny_model("qwen3_moe")
    gate_up, down = expert_targets(model)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=[], target_parameters=[gate_up, down]
    )
    model = peft.get_peft_model(model, config)
    model.set_experts_implementation("moesmith")
    row = moesmith.report(model)[0]
    assert row.name == "base_model.model.model.layers.0.mlp.experts"
    assert row.fused and row.why_not == ""
    assert "gate_up_proj: default, r=4, scale=2, active" in row.adapters
    assert "fused: yes" in str(row)
    model.set_experts_implementation("grouped_mm")
    row = moesmith.report(model)[0]
    assert row.fused is False and "experts_implementation is 'grouped_mm'" in row.why_not
    with model.disable_adapter():
        row = moesmith.report(model)[0]
    assert row.fused is None and row.adapters[0].endswith("disabled")
    model.merge_adapter()
    assert moesmith.report(model)[0].adapters[0].endswith("merged")
