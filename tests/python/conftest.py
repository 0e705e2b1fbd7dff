# SPDX-License-Identifier: Apache-2.0
"""Every test starts from the same seed, two threads, and registered implementations."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may wait for a network


@pytest.fixture(autouse=True)
def _same_start():
    import torch

    import moesmith

    torch.set_num_threads(2)
    torch.manual_seed(0)
    moesmith.register()
