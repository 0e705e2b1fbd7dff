# SPDX-License-Identifier: Apache-2.0
"""Distributed parameters: this rank's experts are used, gradients are distributed again."""

import os

import pytest
import torch

import moesmith
from moesmith import Adapter
from support import assert_close, leaf

dist = pytest.importorskip("torch.distributed")


@pytest.fixture
def mesh(tmp_path):
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_dtensor_parameters(mesh):
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    x, w = leaf(7, 24), leaf(7, 2)
    index = torch.randint(0, 6, (7, 2))  # 5: another rank's expert
    plain = [leaf(5, 20, 24), leaf(5, 24, 10), leaf(15, 24), leaf(20, 15)]
    placements = [Shard(0), Shard(0), Replicate(), Replicate()]
    split = [
        distribute_tensor(t.detach(), mesh, [p]).requires_grad_() for t, p in zip(plain, placements)
    ]

    def run(gate_up, down, a, b):
        lora = Adapter(a, b, 0.5)
        y = moesmith.experts(x, index, w, gate_up, down, gate_up_lora=lora)
        return y, torch.autograd.grad(y.square().sum(), [x, w, gate_up, down, a, b])

    y, grads = run(*split)
    want, want_grads = run(*plain)
    assert torch.equal(y, want) and not isinstance(y, DTensor)
    for got, expected in zip(grads[:2], want_grads[:2]):
        assert torch.equal(got, expected)
    for got, expected, placement in zip(grads[2:], want_grads[2:], placements):
        assert isinstance(got, DTensor) and got.placements == (placement,)
        assert_close("gradient", got.full_tensor(), expected, 0)
