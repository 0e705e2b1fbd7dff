# SPDX-License-Identifier: Apache-2.0
"""`moesmith.report(model)`: which experts modules a model has, and how each of them runs."""

from __future__ import annotations

import dataclasses

import torch

from . import _peft, _private, _recognise
from ._forward import FUNCTIONS, IMPLEMENTATIONS, resolve, runs_here
from ._library import MoesmithError
from ._plans import nominal_plan

_NOMINAL_TOKENS = 1024  # `auto` and refusals are worked out for a call of this many


@dataclasses.dataclass(frozen=True)
class ExpertsReport:
    """One experts module. `runs` is one line about what would run a call of 1024 tokens, or why
    nothing of this package does; `adapters` describes PEFT's wrappers on it; `fused` is None
    without an active adapter, else whether all of them run inside the kernels; `why_not` says why
    not."""

    name: str
    kind: str
    implementation: str | None
    runs: str
    adapters: tuple[str, ...]
    fused: bool | None
    why_not: str
    switchable: bool  # whether its class takes an experts_implementation at all

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}): {self.implementation}: {self.runs}"]
        lines += [f"  LoRA on {text}" for text in self.adapters]
        if self.fused is not None:
            lines.append("  fused: yes" if self.fused else f"  fused: no, {self.why_not}")
        return "\n".join(lines)


class Report(tuple):
    """The rows of a report; as text, one paragraph a module."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no module with fused experts"


def _fused_experts(module) -> bool:
    down = getattr(module, "down_proj", None)
    return isinstance(down, torch.Tensor) and down.dim() == 3


def _switchable(module) -> bool:
    return hasattr(module, "is_transposed") and hasattr(module, "is_concatenated")


def _runs(module) -> str:
    name = _private.implementation_of(module)
    if not _switchable(module):
        return "its class takes no experts_implementation"
    if name not in FUNCTIONS:
        return "transformers' own"
    if not runs_here(module):
        return "another package's function of that name"
    try:
        first = getattr(module, _recognise.weight_name(module))
        layer = resolve(module, IMPLEMENTATIONS[name])
        return nominal_plan(first, module.down_proj, layer, _NOMINAL_TOKENS).text
    except MoesmithError as error:
        return str(error)


def _adapter_texts(wrapper) -> list[str]:
    if wrapper.merged:
        state = "merged"
    elif wrapper.disable_adapters:
        state = "disabled"
    else:
        state = "active"
    active = _peft.active_adapters(wrapper)
    return [
        f"{wrapper.parameter_name}: {name}, r={wrapper.r[name]}, scale={wrapper.scaling[name]:g}, "
        + (state if state != "active" or name in active else "not active")
        for name in wrapper.lora_A
    ]


def report(model: torch.nn.Module) -> Report:
    """Each experts module of a model: implementation, adapters, fused or not and why. Print it."""
    wrappers: dict[int, list] = {}
    names: dict[int, str] = {}
    if _private.release_of("peft") is not None:
        kind = _private.param_wrapper()
        for name, module in model.named_modules():
            if isinstance(module, kind):
                base = id(module.get_base_layer())
                wrappers.setdefault(base, []).append(module)
                names.setdefault(base, name)  # the outermost comes first
    rows = []
    for name, module in model.named_modules():
        if not _fused_experts(module):
            continue
        own = wrappers.get(id(module), [])
        active = [wrapper for wrapper in own if _peft.active_adapters(wrapper)]
        reasons = [reason for wrapper in active if (reason := _peft.why_not_fused(wrapper))]
        rows.append(
            ExpertsReport(
                name=names.get(id(module), name),
                kind=type(module).__name__,
                implementation=_private.implementation_of(module),
                runs=_runs(module),
                adapters=tuple(text for wrapper in own for text in _adapter_texts(wrapper)),
                fused=None if not active else not reasons,
                why_not="; ".join(dict.fromkeys(reasons)),
                switchable=_switchable(module),
            )
        )
    return Report(rows)
