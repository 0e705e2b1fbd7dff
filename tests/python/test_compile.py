# SPDX-License-Identifier: Apache-2.0
"""torch.compile sees opaque operators; whole models compile, with and without adapters."""

import pytest
import torch
from transformers import AutoConfig

import moesmith
from moesmith import Adapter, Layer
from support import (
    assert_close,
    expert_targets,
    experts_module,
    family_configs,
    leaf,
    load,
    loss_of,
    tiny_model,
)

E, K, H, I, R = 5, 2, 24, 10, 3  # noqa: E741


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def operands(tokens):
    return [
        leaf(tokens, H),
        torch.randint(-1, E + 1, (tokens, K)),
        leaf(tokens, K),
        leaf(E, 2 * I, H),
        leaf(E, H, I),
        leaf(R * E, H),
        leaf(2 * I, R * E),
    ]


def layer_of(x, index, w, gate_up, down, a, b):
    return moesmith.experts(x, index, w, gate_up, down, gate_up_lora=Adapter(a, b, 0.5))


def test_operators_keep_the_rules_of_torch_library():
    x, index, w, gate_up, down, a, b = operands(7)
    arguments = (x, index, w, gate_up, down, None, None, a, b, None, None, Layer().text, 0.5, 1.0)
    # The saved bytes beyond what a plan uses are not written, so that outputs are not compared.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    wanted = 0b11001111
    forward = torch.ops.moesmith.experts_forward.default
    torch.library.opcheck(forward, (*arguments, wanted), test_utils=checks)
    y, saved = forward(*arguments, wanted)
    backward = torch.ops.moesmith.experts_backward.default
    detached = [t.detach() if isinstance(t, torch.Tensor) else t for t in arguments]
    arguments = (torch.randn_like(y), saved.detach(), *detached, wanted)
    torch.library.opcheck(backward, arguments, test_utils=checks)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_break(dynamic):
    compiled = torch.compile(layer_of, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for tokens in (7, 13, 40):
        values = operands(tokens)
        dy = torch.randn(tokens, H)
        leaves = [v for v in values if v.requires_grad]
        want = layer_of(*values)
        want_grads = torch.autograd.grad(want, leaves, dy)
        got = compiled(*values)
        assert torch.equal(got, want)
        for one, other in zip(torch.autograd.grad(got, leaves, dy), want_grads):
            assert torch.equal(one, other)
    with torch.no_grad():
        assert torch.equal(compiled(*values), want)


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("lora", [False, True])
def test_whole_models_compile(family, lora):
    """From the first call on; without adapters in one graph."""
    model = tiny_model(family)
    if lora:
        peft = pytest.importorskip("peft")
        targets = list(expert_targets(model))
        config = peft.LoraConfig(r=3, target_modules=[], target_parameters=targets)
        model = peft.get_peft_model(model, config).eval()
        for name, p in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(p, std=0.2)
    ids = torch.randint(3, 250, (2, 20))
    model.set_experts_implementation("moesmith")
    if lora:
        assert all(row.fused for row in moesmith.report(model))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=not lora)
    got, loss = loss_of(compiled, ids, ids)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    model.set_experts_implementation("eager")
    want, loss = loss_of(model, ids, ids)
    loss.backward()
    assert_close("logits", got, want)
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert_close(name, grads[name], p.grad)


def test_an_experts_module_compiles_without_a_break():
    """Also one that was never called."""
    model = tiny_model("gpt_oss")
    model.set_experts_implementation("moesmith")
    _, module = experts_module(model)
    x, w = torch.randn(9, 64), torch.rand(9, 2)
    index = torch.randint(0, 8, (9, 2))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, index, w), module(x, index, w))


def test_layers_compiled_one_by_one_share_a_graph():
    """More layers than the compiler makes graphs of one function, none called before, under
    checkpointing, which refuses a layer that runs once compiled and once not."""
    peft = pytest.importorskip("peft")
    model_type, options = family_configs()["qwen3_moe"]
    config = AutoConfig.for_model(model_type, **(options | {"num_hidden_layers": 10}))
    model = load(config, dtype=torch.float32)
    targets = list(expert_targets(model))
    lora = peft.LoraConfig(
        r=3, target_modules=[], target_parameters=targets, init_lora_weights=False
    )
    model = peft.get_peft_model(model, lora).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    for layer in model.get_base_model().model.layers:
        layer.compile(backend=count)
    ids = torch.randint(3, 250, (1, 20))
    for number, name in enumerate(("scattermoe", "moesmith"), 1):
        model.set_experts_implementation(name)
        loss_of(model, ids, ids)[1].backward()
        assert len(graphs) == number
