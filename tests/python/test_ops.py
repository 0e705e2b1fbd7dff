# SPDX-License-Identifier: Apache-2.0
"""The operators against an oracle in plain torch, and every corner of the contract."""

import threading

import pytest
import torch

import moesmith
from moesmith import Adapter, Layer
from support import assert_close, leaf, oracle

T, E, K, H, I, R = 11, 5, 2, 24, 10, 3  # noqa: E741


class Case:
    """One layer's tensors as leaves that want gradients."""

    def __init__(self, layer=None, dtype=torch.float32, bias=False, lora=(), k=K, tokens=T, e=E):
        self.layer = layer or Layer()
        width = 2 * I if self.layer.gated else I
        swap = (lambda *s: (s[0], s[2], s[1])) if self.layer.transposed else (lambda *s: s)
        self.x, self.w = leaf(tokens, H, dtype=dtype), leaf(tokens, k, dtype=dtype)
        self.index = torch.randint(0, e, (tokens, k))
        self.gate_up = leaf(*swap(e, width, H), dtype=dtype, scale=0.4)
        self.down = leaf(*swap(e, H, I), dtype=dtype, scale=0.4)
        self.b1 = leaf(e, width, dtype=dtype) if bias else None
        self.b2 = leaf(e, H, dtype=dtype) if bias else None
        self.lora1 = self._adapter(width, H, 0.5, dtype) if "gate_up" in lora else None
        self.lora2 = self._adapter(H, I, 2.0, dtype) if "down" in lora else None

    @staticmethod
    def _adapter(rows, cols, scale, dtype):
        a, b = leaf(R * E, cols, dtype=dtype, scale=0.4), leaf(rows, R * E, dtype=dtype, scale=0.4)
        return Adapter(a, b, scale)

    def leaves(self):
        factors = [t for lora in (self.lora1, self.lora2) if lora for t in lora[:2]]
        biases = [b for b in (self.b1, self.b2) if b is not None]
        return [self.x, self.w, self.gate_up, self.down, *biases, *factors]

    def ours(self, x=None, w=None, index=None, implementation=None):
        layer = self.layer
        if implementation:
            values = {f: getattr(layer, f) for f in layer.__dataclass_fields__}
            layer = Layer(**{**values, "implementation": implementation})
        return moesmith.experts(
            self.x if x is None else x,
            self.index if index is None else index,
            self.w if w is None else w,
            self.gate_up,
            self.down,
            layer=layer,
            gate_up_bias=self.b1,
            down_bias=self.b2,
            gate_up_lora=self.lora1,
            down_lora=self.lora2,
        )

    def theirs(self):
        return oracle(self.x, self.index, self.w, self.gate_up, self.down, self.layer, self.b1,
                      self.b2, self.lora1, self.lora2)  # fmt: skip

    def compare(self, bound=1e-5, implementation=None):
        ours, theirs = self.ours(implementation=implementation), self.theirs()
        assert_close("y", ours, theirs, bound)
        dy = torch.randn_like(theirs)
        got = torch.autograd.grad(ours, self.leaves(), dy)
        want = torch.autograd.grad(theirs, self.leaves(), dy)
        for number, (g, w) in enumerate(zip(got, want)):
            assert g.dtype == w.dtype
            assert_close(f"gradient {number}", g, w, bound)


LAYERS = {
    "silu": Layer(),
    "gpt_oss": Layer(gate_max=0.7, up_limit=0.7, alpha=1.702, up_shift=1.0, interleaved=True,
                     transposed=True),
    "clamped": Layer(gate_max=0.5, up_limit=0.5),
    "gelu_tanh": Layer(activation="gelu_tanh"),
    "gelu transposed": Layer(activation="gelu", transposed=True),
    "relu interleaved": Layer(activation="relu", interleaved=True),
    "relu2 without gate": Layer(activation="relu2", gated=False),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lora", [(), ("gate_up",), ("down",), ("gate_up", "down")])
@pytest.mark.parametrize("implementation", ["eager", "scattermoe", "batched_mm"])
def test_matches_the_oracle(name, lora, implementation):
    case = Case(LAYERS[name], bias="gpt_oss" in name, lora=lora)
    case.compare(bound=1e-5, implementation=implementation)


def test_gradients_agree_with_finite_differences():
    case = Case(dtype=torch.float64, bias=True, lora=("gate_up", "down"), tokens=4)
    assert torch.autograd.gradcheck(lambda *_: case.ours(), case.leaves(), atol=1e-6)


def test_one_slot_per_token_and_an_expert_twice():
    Case(k=1).compare()
    case = Case()
    case.index[:] = 3
    case.compare()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_index_of_any_integer_dtype(dtype):
    case = Case()
    assert torch.equal(case.ours(index=case.index.to(dtype)), case.ours())


def test_skipped_slots_are_exactly_zero():
    case = Case(bias=True, lora=("gate_up", "down"))
    case.index[0], case.index[1], case.index[2, 0] = -1, E, E + 100
    with torch.no_grad():
        case.w[0] = float("nan")
    case.index[case.index == 4] = 0  # an expert without tokens
    y = case.ours()
    assert torch.equal(y[:2], torch.zeros(2, H))
    gradients = torch.autograd.grad(y, case.leaves(), torch.randn_like(y))
    d_x, d_w, *rest = gradients
    assert torch.equal(d_x[:2], torch.zeros(2, H)) and torch.equal(d_w[:2], torch.zeros(2, K))
    assert d_w[2, 0] == 0 and d_w[2, 1] != 0
    assert all(torch.isfinite(g).all() for g in gradients)
    for weight in rest[:4]:
        assert torch.equal(weight[4], torch.zeros_like(weight[4]))


def test_no_tokens_and_a_live_graph():
    case = Case(bias=True, lora=("gate_up", "down"), tokens=0)
    y = case.ours()
    assert y.shape == (0, H) and y.requires_grad
    y.sum().backward()
    for tensor in case.leaves():
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_gradients_with_any_strides():
    case = Case()
    y = case.ours()
    one = torch.autograd.grad(y.sum(), case.leaves(), retain_graph=True)  # stride 0
    same = torch.autograd.grad(y, case.leaves(), torch.ones(T, H), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    dy = torch.randn(H, T)
    across = torch.autograd.grad(y, case.leaves(), dy.t(), retain_graph=True)
    along = torch.autograd.grad(y, case.leaves(), dy.t().contiguous())
    assert all(torch.equal(a, b) for a, b in zip(across, along))


def shifted(tensor):
    """The same values one element after where an allocation begins."""
    room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)
    view = room[1:].view(tensor.shape)
    view.copy_(tensor.detach())
    return view.requires_grad_(tensor.requires_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_misaligned_views_give_the_same_bits(dtype):
    case, other = Case(dtype=dtype, lora=("gate_up",)), Case(dtype=dtype, lora=("gate_up",))
    other.index = case.index
    for name in ("x", "w", "gate_up", "down"):
        setattr(other, name, shifted(getattr(case, name)))
    other.lora1 = Adapter(shifted(case.lora1.a), shifted(case.lora1.b), case.lora1.scale)
    assert torch.equal(case.ours(), other.ours())
    dy = torch.randn(T, H).to(dtype)
    got = torch.autograd.grad(other.ours(), other.leaves(), dy)
    assert all(
        torch.equal(a, b) for a, b in zip(got, torch.autograd.grad(case.ours(), case.leaves(), dy))
    )


def test_strided_inputs():
    case = Case()
    wide = torch.randn(T, 2 * H)
    assert torch.equal(case.ours(x=wide[:, ::2]), case.ours(x=wide[:, ::2].contiguous()))
    part = torch.randn(E, 2 * I, 3 * H)[:, :, H : 2 * H]  # rows further apart than they are long
    y = moesmith.experts(case.x, case.index, case.w, part, case.down)
    assert torch.equal(
        y, moesmith.experts(case.x, case.index, case.w, part.contiguous(), case.down)
    )


def test_routing_weights_of_another_dtype():
    case = Case(dtype=torch.bfloat16)
    case.w = case.w.detach().float().requires_grad_()
    y = case.ours()
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert case.w.grad.dtype == torch.float32 and case.x.grad.dtype == torch.bfloat16
    half = case.w.detach().half().requires_grad_()
    case.ours(w=half).float().sum().backward()
    assert half.grad.dtype == torch.float16


def test_only_what_is_asked_for():
    case = Case(lora=("down",))
    case.gate_up.requires_grad_(False)
    case.down.requires_grad_(False)
    case.ours().sum().backward()
    assert case.gate_up.grad is None and case.down.grad is None
    assert case.lora2.a.grad is not None and case.x.grad is not None


def saved_bytes(output) -> int:
    saved = [t for t in output.grad_fn.saved_tensors if t is not None]
    return sum(t.numel() for t in saved if t.dtype == torch.uint8)


def test_saves_little_and_nothing_without_gradients():
    case = Case()
    assert saved_bytes(case.ours()) <= T * K * 2 * I * 4 + 256
    with torch.no_grad():
        y, saved = torch.ops.moesmith.experts_forward(
            case.x, case.index, case.w, case.gate_up, case.down, None, None, None, None, None, None,
            Layer().text, 1.0, 1.0, 0)  # fmt: skip
        assert saved.numel() == 0 and not y.requires_grad
        assert not case.ours().requires_grad
    assert torch.equal(y, case.ours())


def test_gradients_of_gradients_are_refused():
    case = Case()
    (d_x,) = torch.autograd.grad(case.ours().sum(), [case.x], create_graph=True)
    with pytest.raises(moesmith.UnsupportedError, match="gradients of gradients"):
        d_x.sum().backward()


def test_backward_twice_over_one_graph():
    case = Case()
    y = case.ours()
    first = torch.autograd.grad(y.sum(), case.leaves(), retain_graph=True)
    again = torch.autograd.grad(y.sum(), case.leaves())
    assert all(torch.equal(a, b) for a, b in zip(first, again))


def test_bits_do_not_depend_on_threads():
    case = Case(tokens=300)
    expected = case.ours()
    torch.set_num_threads(1)
    assert torch.equal(case.ours(), expected)
    results = []
    threads = [threading.Thread(target=lambda: results.append(case.ours())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all(torch.equal(r, expected) for r in results)


def test_autocast_computes_in_its_dtype():
    case = Case(lora=("gate_up", "down"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = case.ours()
    assert y.dtype == torch.float32
    low = case.ours(x=case.x.to(torch.bfloat16))
    assert torch.equal(y, low.float())
    y.sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in case.leaves())


def test_the_error_names_the_argument():
    case = Case()
    for change, text in [
        (dict(x=torch.randn(T, H + 1)), r"gate_up: got \[5, 20, 24\], expected \[5, 20, 25\]"),
        (dict(index=case.index[:-1]), r"top_k_index: got \[10, 2\], expected \[11, 2\]"),
        (dict(w=case.w[:, :1]), r"top_k_weights: got \[11, 1\], expected \[11, 2\]"),
        (dict(x=case.x.half()), "hidden_states: got torch.float16"),
        (dict(x=case.x.unsqueeze(0)), "hidden_states: got .*T, H"),
    ]:
        with pytest.raises(moesmith.InvalidInputError, match=text):
            case.ours(**change)
    with pytest.raises(moesmith.InvalidInputError, match="gate_up: got a last dimension of stride"):
        moesmith.experts(
            case.x,
            case.index,
            case.w,
            case.gate_up.transpose(1, 2).contiguous().transpose(1, 2),
            case.down,
        )
    with pytest.raises(moesmith.InvalidInputError, match="activation: got 'swish'"):
        Layer(activation="swish")


def bad_inputs(case):
    a, b, scale = case.lora1
    meta = torch.device("meta")
    return [
        (dict(hidden_states=[[1.0]]), "hidden_states: got a list, expected a torch.Tensor"),
        (dict(hidden_states=case.x.to(meta)), "got a tensor on meta, expected the CPU or a CUDA"),
        (dict(hidden_states=case.x.detach().to_sparse()), "layout torch.sparse_coo, expected a de"),
        (dict(top_k_index=case.index.float()), "top_k_index: got torch.float32, expected integers"),
        (dict(top_k_index=case.index.to(meta)), "top_k_index: got a tensor on meta, expected one"),
        (dict(top_k_weights=case.index), "top_k_weights: got torch.int64, expected a floating"),
        (dict(gate_up=case.gate_up.to(torch.int8)), "gate_up: got torch.int8, .* cast the model"),
        (dict(down=case.down.bfloat16()), "down: got torch.bfloat16, .*: cast both to one dtype"),
        (dict(down=case.down.to(meta)), "down: got a tensor on meta, expected one on cpu"),
        (dict(layer="silu"), "layer: got 'silu', expected a moesmith.Layer"),
        (dict(layer=Layer(implementation="fast")), "got fast, expected one of .*scattermoe"),
        (dict(gate_up_bias=case.b1.to(meta)), "gate_up_bias: got a tensor on meta"),
        (dict(gate_up_lora=(a, b)), "gate_up LoRA: got a tuple, expected a moesmith.Adapter"),
        (dict(gate_up_lora=Adapter(a[:-1], b, scale)), "got A of 14 rows, expected a multiple of"),
        (dict(gate_up_lora=Adapter(a, b[:, 1:], scale)), r"LoRA B: got \[20, 14\], expected"),
        (dict(gate_up_lora=Adapter(a, b, float("nan"))), "LoRA scale: got nan, expected a finite"),
        (dict(gate_up_lora=Adapter(a.to(meta), b, scale)), "gate_up LoRA A: got a tensor on meta"),
    ]


@pytest.mark.parametrize("number", range(17))
def test_bad_input_is_one_sentence_that_says_what_to_do(number):
    case = Case(bias=True, lora=("gate_up",))
    changes = bad_inputs(case)
    assert len(changes) == 17
    values = dict(
        hidden_states=case.x,
        top_k_index=case.index,
        top_k_weights=case.w,
        gate_up=case.gate_up,
        down=case.down,
        gate_up_lora=case.lora1,
    )
    moesmith.experts(**values)
    change, text = changes[number]
    with pytest.raises(moesmith.InvalidInputError, match=text) as caught:
        moesmith.experts(**values | change)
    assert "\n" not in str(caught.value)


def test_fork_starts_threads_of_its_own():
    import os

    case = Case()
    expected = case.ours().detach()
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(case.ours().detach(), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
