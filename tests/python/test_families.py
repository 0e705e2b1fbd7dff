# SPDX-License-Identifier: Apache-2.0
"""Each model family through transformers: ours beside the class's own forward (`eager`)."""

import pytest
import torch

from support import (
    assert_close,
    expert_targets,
    experts_module,
    family_configs,
    golden_folders,
    loss_of,
    relative_error,
    tiny_model,
)

FAMILIES = sorted(family_configs())


def batch(model, length=24):
    ids = torch.randint(3, model.config.vocab_size, (2, length))
    labels = ids.clone()
    labels[0, :5] = -100
    return ids, labels


def run(model, implementation, ids, labels):
    """{"logits", "loss", every gradient by its parameter's name}."""
    model.set_experts_implementation(implementation)
    model.zero_grad(set_to_none=True)
    logits, loss = loss_of(model, ids, labels)
    loss.backward()
    return {"logits": logits, "loss": loss} | {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_matches_eager_and_repeats(name):
    model = tiny_model(name)
    ids, labels = batch(model)
    want = run(model, "eager", ids, labels)
    got = run(model, "moesmith", ids, labels)
    assert got.keys() == want.keys()
    for key in want:
        assert_close(f"{name} {key}", got[key], want[key])
    for key, again in run(model, "scattermoe", ids, labels).items():
        assert_close(f"{name} scattermoe {key}", again, want[key])
    for key, again in run(model, "moesmith", ids, labels).items():
        assert torch.equal(again, got[key]), f"{name} {key}: other bits the second time"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", ["both", "gate_up", "down"])
def test_adapters_match_peft(name, part):
    peft = pytest.importorskip("peft")
    model = tiny_model(name)
    targets = expert_targets(model)
    chosen = {"both": list(targets), "gate_up": [targets[0]], "down": [targets[1]]}[part]
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=[], target_parameters=chosen)
    wrapped = peft.get_peft_model(model, config).eval()
    for parameter_name, p in wrapped.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(p, std=0.2)
    ids, labels = batch(model)
    want = run(wrapped, "eager", ids, labels)
    got = run(wrapped, "moesmith", ids, labels)
    assert len(want) > 2 and got.keys() == want.keys()
    for key in want:
        assert_close(f"{name} {key}", got[key], want[key])


@pytest.mark.parametrize("folder", golden_folders(), ids=lambda folder: folder.name)
@pytest.mark.parametrize("part", ["model", "adapter", "adapter_gate_up", "adapter_down"])
def test_matches_golden_data(folder, part):
    """Logits, loss and every gradient that transformers and PEFT wrote down once."""
    pytest.importorskip("peft")
    import goldens

    want, got = goldens.golden_data(folder, part), goldens.results(folder, part, "moesmith")
    assert want.keys() <= got.keys()
    for key in want:
        assert_close(f"{folder.name} {part} {key}", got[key], want[key])


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_is_no_worse_than_twice_eager(name):
    """|ours - exact| <= 2 |eager in bf16 - exact| for y and each gradient of the experts module;
    the largest value's half a bf16 step is always allowed."""
    _, module = experts_module(tiny_model(name))
    module = module.to(torch.bfloat16)
    first = "gate_up_proj" if hasattr(module, "gate_up_proj") else "up_proj"
    weight = getattr(module, first)
    num_experts = weight.shape[0]
    hidden = module.down_proj.shape[2 if module.is_transposed else 1]
    x = torch.randn(64, hidden).to(torch.bfloat16)
    w, index = torch.rand(64, num_experts).topk(2)
    w, dy = w.to(torch.bfloat16), torch.randn(64, hidden).to(torch.bfloat16)

    def results(implementation, dtype):
        module.to(dtype)
        module.config._experts_implementation = implementation
        leaves = [x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()]
        leaves += list(module.parameters())
        y = module(leaves[0], index, leaves[1])
        return [y, *torch.autograd.grad(y, leaves, dy.to(dtype))]

    naive, ours = results("eager", torch.bfloat16), results("moesmith", torch.bfloat16)
    exact = results("eager", torch.float64)
    for number, (one, other, right) in enumerate(zip(ours, naive, exact)):
        bound = 2 * relative_error(other, right) + 2**-9
        assert relative_error(one, right) <= bound, f"{name} tensor {number}"
