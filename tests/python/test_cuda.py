# SPDX-License-Identifier: Apache-2.0
"""On a GPU: the same families, streams and devices. Skipped, with the reason, elsewhere."""

import pytest
import torch

import moesmith
from moesmith import Adapter, Layer
from support import assert_close, expert_targets, experts_module, relative_error, tiny_model

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)
if not moesmith.has_cuda():
    pytest.skip("the library was built without CUDA", allow_module_level=True)

HOPPER = torch.cuda.get_device_capability()[0] == 9
T, E, K, H, I, R = 200, 6, 2, 64, 32, 4  # noqa: E741
FAMILIES = ["qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "gpt_oss", "deepseek_v3", "glm4_moe",
            "gemma4_text", "ernie4_5_moe", "hunyuan_v1_moe", "minimax_m2", "mistral4", "qwen3_next",
            "qwen3_5_moe_text", "granitemoe", "nemotron_h", "glm_moe_dsa"]  # fmt: skip


def operands(dtype, device="cuda"):
    def draw(*shape, scale=1.0):
        return (torch.randn(*shape) * scale).to(dtype).to(device).requires_grad_()

    x, w = draw(T, H), draw(T, K)
    index = torch.randint(-1, E + 1, (T, K)).to(device)
    weights = [draw(E, 2 * I, H, scale=0.2), draw(E, H, I, scale=0.2)]
    factors = [draw(R * E, H, scale=0.2), draw(2 * I, R * E, scale=0.2)]
    factors += [draw(R * E, I, scale=0.2), draw(H, R * E, scale=0.2)]
    return [x, index, w, *weights, *factors]


def layer_of(values, implementation="scattermoe"):
    x, index, w, gate_up, down, a1, b1, a2, b2 = values
    return moesmith.experts(
        x,
        index,
        w,
        gate_up,
        down,
        layer=Layer(implementation=implementation),
        gate_up_lora=Adapter(a1, b1, 0.5),
        down_lora=Adapter(a2, b2, 2.0),
    )


def gradients(y, values, dy):
    return torch.autograd.grad(y, [v for v in values if v.requires_grad], dy)


def on_cpu(values, dtype):
    return [
        v.detach().cpu().to(dtype).requires_grad_() if v.is_floating_point() else v.cpu()
        for v in values
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matches_the_cpu(dtype):
    values = operands(dtype)
    exact = on_cpu(values, torch.float64)
    dy = torch.randn(T, H, dtype=dtype, device="cuda")
    y = layer_of(values)
    want = layer_of(exact, "eager")
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    assert_close("y", y.cpu(), want, bound)
    got = gradients(y, values, dy)
    for number, (a, b) in enumerate(zip(got, gradients(want, exact, dy.cpu().double()))):
        assert_close(f"gradient {number}", a.cpu(), b, bound)
    again = gradients(layer_of(values), values, dy)
    assert all(torch.equal(a, b) for a, b in zip(got, again))


@pytest.mark.skipif(not HOPPER, reason="sonicmoe needs a Hopper GPU")
def test_sonicmoe_agrees_with_scattermoe():
    values = operands(torch.bfloat16)
    dy = torch.randn(T, H, dtype=torch.bfloat16, device="cuda")
    one, other = layer_of(values, "sonicmoe"), layer_of(values)
    assert relative_error(one, other) < 1e-2
    for a, b in zip(gradients(one, values, dy), gradients(other, values, dy)):
        assert relative_error(a, b) < 2e-2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_families(family, dtype):
    """f32 to 1e-4 of the class's own forward on the CPU; bf16 by the 2x rule against double."""
    _, module = experts_module(tiny_model(family))
    module.to(dtype)
    num_experts = module.down_proj.shape[0]
    hidden = module.down_proj.shape[2 if module.is_transposed else 1]
    x, dy = torch.randn(64, hidden).to(dtype), torch.randn(64, hidden).to(dtype)
    w, index = torch.rand(64, num_experts).topk(2)

    def results(implementation, kind, device="cpu"):
        module.to(device=device, dtype=kind)
        module.config._experts_implementation = implementation
        leaves = [x.to(device, kind).requires_grad_(), w.to(device, kind).requires_grad_()]
        leaves += list(module.parameters())
        y = module(leaves[0], index.to(device), leaves[1])
        return [y, *torch.autograd.grad(y, leaves, dy.to(device, kind))]

    ours = [t.cpu() for t in results("moesmith", dtype, "cuda")]
    naive = [t.cpu() for t in results("eager", dtype, "cuda")]
    exact = results("eager", torch.float64)
    for number, (one, other, right) in enumerate(zip(ours, naive, exact)):
        slack = 1e-4 if dtype == torch.float32 else 2 * relative_error(other, right) + 2**-9
        assert relative_error(one, right) <= slack, f"{family} tensor {number}"


def test_another_stream():
    values = operands(torch.bfloat16)
    want = layer_of(values)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        big = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):  # the layer must wait for the copy behind this work
            big = big @ big / 64
        copies = [v.detach().clone().requires_grad_(v.requires_grad) for v in values]
        y = layer_of(copies)
        y.float().square().sum().backward()
    stream.synchronize()
    assert torch.equal(y, want)
    assert all(torch.isfinite(v.grad).all() for v in copies if v.requires_grad)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_another_device_is_current():
    values = operands(torch.bfloat16, "cuda:1")
    with torch.cuda.device(0):
        y = layer_of(values)
        y.float().sum().backward()
        assert torch.cuda.current_device() == 0
    assert y.device.index == 1 and torch.isfinite(values[0].grad).all()


def test_a_graph_captures_a_step():
    values = operands(torch.bfloat16)
    dy = torch.randn(T, H, dtype=torch.bfloat16, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        want = [layer_of(values), *gradients(layer_of(values), values, dy)]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer_of(values)
        got = [y, *gradients(y, values, dy)]
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_no_tokens_and_a_live_graph():
    values = operands(torch.bfloat16)
    values[0], values[1], values[2] = (v[:0].detach() for v in values[:3])
    values[0].requires_grad_()
    y = layer_of(values)
    y.sum().backward()
    assert y.shape == (0, H) and torch.equal(values[5].grad, torch.zeros_like(values[5]))


def test_adapters_of_a_model():
    peft = pytest.importorskip("peft")
    model = tiny_model("qwen3_moe").cuda()
    config = peft.LoraConfig(r=4, target_modules=[], target_parameters=list(expert_targets(model)))
    model = peft.get_peft_model(model, config).train()
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.2)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(3, 250, (2, 24), device="cuda")
    results = []
    for implementation in ("eager", "moesmith"):
        model.set_experts_implementation(implementation)
        model.zero_grad(set_to_none=True)
        output = model(input_ids=ids, labels=ids)
        output.loss.backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        results.append((output.logits, grads))
    (want, want_grads), (got, grads) = results
    assert_close("logits", got, want, 1e-3)  # attention's own products differ from run to run
    for name, gradient in want_grads.items():
        assert_close(name, grads[name], gradient, 1e-3)
    tokens = model.generate(input_ids=ids[:, :5], max_new_tokens=6, do_sample=False)
    assert tokens.shape[1] == 11
