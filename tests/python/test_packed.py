# SPDX-License-Identifier: Apache-2.0
"""Frozen weights packed once on the CPU: the same bits, made when they are worth it, and made again
when a weight has changed."""

import copy
import io

import pytest
import torch

import moesmith
from moesmith import Adapter, PackedWeights, _packed
from support import experts_module, leaf, tiny_model

T, E, K, H, I, R = 40, 5, 2, 48, 32, 3  # noqa: E741


@pytest.fixture(autouse=True)
def _auto_and_memory_enough(monkeypatch):
    monkeypatch.setattr(_packed, "memory", lambda: (1 << 40, 1 << 40))
    moesmith.pack_experts("auto")
    yield
    moesmith.pack_experts("auto")


class Case:
    def __init__(self, dtype=torch.bfloat16):
        self.x, self.w = leaf(T, H, dtype=dtype), leaf(T, K, dtype=dtype)
        self.index = torch.randint(-1, E, (T, K))
        self.gate_up = torch.randn(E, 2 * I, H).to(dtype)
        self.down = torch.randn(E, H, I).to(dtype)
        self.a, self.b = leaf(R * E, H, dtype=dtype), leaf(2 * I, R * E, dtype=dtype)
        self.dy = torch.randn(T, H).to(dtype)
        self.packs = PackedWeights()

    def run(self, packs=None):
        lora = Adapter(self.a, self.b, 0.5)
        y = moesmith.experts(
            self.x,
            self.index,
            self.w,
            self.gate_up,
            self.down,
            gate_up_lora=lora,
            packs=packs,
        )
        if not torch.is_grad_enabled():
            return [y]
        return [y, *torch.autograd.grad(y, [self.x, self.w, self.a, self.b], self.dy)]

    def same_bits(self):
        want, got = self.run(), self.run(self.packs)
        return all(torch.equal(a, b) for a, b in zip(want, got))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_from_the_second_call_on_with_the_same_bits(dtype):
    case = Case(dtype)
    sizes = []
    for _ in range(3):
        assert case.same_bits()
        sizes.append(case.packs.nbytes())
    weights = (case.gate_up.numel() + case.down.numel()) * case.gate_up.element_size()
    assert sizes[0] == 0 and sizes[1] == sizes[2] >= 2 * weights


def test_the_copies_are_what_is_read():
    """Were the weights read, then what is written to them behind the versions would show; rows that
    the sample looks at are left alone."""
    case = Case()
    moesmith.pack_experts(True)
    want = case.run(case.packs)
    case.gate_up.data[:, 1::2] = float("nan")
    assert case.gate_up.shape[1] // _packed._SAMPLES % 2 == 0
    assert all(torch.equal(a, b) for a, b in zip(want, case.run(case.packs)))


def changes():
    def in_place(case):
        case.gate_up.mul_(2)

    def behind_the_version(case):
        case.down.data += 1

    def another_tensor(case):
        case.down = case.down.clone() * 2

    def another_dtype(case):
        case.x = case.x.detach().float().requires_grad_()
        case.dy = case.dy.float()

    return [in_place, behind_the_version, another_tensor, another_dtype]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_a_changed_weight_is_packed_again(change):
    case = Case()
    moesmith.pack_experts(True)
    before = case.run(case.packs)[0]
    change(case)
    assert case.same_bits()
    assert not torch.equal(case.run(case.packs)[0], before)
    assert case.packs.nbytes() > 0


def test_each_dtype_of_states_has_copies_of_its_own():
    case, other = Case(), Case()
    other.packs, other.gate_up, other.down = case.packs, case.gate_up, case.down
    other.x, other.dy = other.x.detach().float().requires_grad_(), other.dy.float()
    moesmith.pack_experts(True)
    for one in (case, other, case, other):
        assert one.same_bits()


def test_inference_takes_half_and_training_adds_to_it():
    case = Case()
    moesmith.pack_experts(True)
    with torch.no_grad():
        assert case.same_bits()
    half = case.packs.nbytes()
    assert case.same_bits() and case.packs.nbytes() >= 2 * half
    with torch.no_grad():
        assert case.same_bits() and case.packs.nbytes() >= 2 * half
    with torch.inference_mode():
        assert torch.equal(case.run(case.packs)[0], case.run()[0])


def test_trained_weights_are_not_packed():
    case = Case()
    moesmith.pack_experts(True)
    case.run(case.packs)
    case.down.requires_grad_()
    case.run(case.packs)
    assert case.packs.nbytes() == 0


def test_memory_decides_and_false_turns_it_off(monkeypatch):
    case = Case()
    monkeypatch.setattr(_packed, "memory", lambda: ((1 << 39) + 1000, 1 << 40))
    for _ in range(3):
        case.run(case.packs)
    assert case.packs.nbytes() == 0
    moesmith.pack_experts(True)
    case.run(case.packs)
    assert case.packs.nbytes() > 0
    moesmith.pack_experts(False)
    assert case.same_bits() and case.packs.nbytes() == 0
    with pytest.raises(moesmith.InvalidInputError, match="got 'sometimes', expected auto, true or"):
        moesmith.pack_experts("sometimes")


def test_memory_of_this_machine(monkeypatch):
    monkeypatch.undo()
    available, total = _packed.memory()
    assert 0 < available <= total


def test_modules_pack_by_themselves_and_copies_stay_out_of_files():
    model = tiny_model("qwen3_moe").requires_grad_(False)
    model.set_experts_implementation("scattermoe")
    ids = torch.randint(3, 250, (2, 20))
    want = model(ids).logits
    assert torch.equal(model(ids).logits, want)
    _, module = experts_module(model)
    packs = module.__dict__["_moesmith_packs"]
    assert packs.nbytes() > 0
    assert copy.deepcopy(module).__dict__["_moesmith_packs"].nbytes() == 0
    buffer = io.BytesIO()
    torch.save(module.__dict__["_moesmith_packs"], buffer)
    assert len(buffer.getvalue()) < 2000 and "_moesmith_packs" not in module.state_dict()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    got = model(ids).logits
    model.set_experts_implementation("eager")
    assert torch.allclose(got, model(ids).logits, atol=1e-4)
