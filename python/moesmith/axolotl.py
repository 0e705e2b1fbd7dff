# SPDX-License-Identifier: Apache-2.0
"""Axolotl's plug-in: `plugins: [moesmith.axolotl.MoesmithPlugin]`.

Honours `experts_implementation`, `use_scattermoe`, `use_sonicmoe`, `expert_backend` and
`use_kernels`. One implementation is meant, or the file is refused; nothing is replaced by another
implementation.
"""

from __future__ import annotations

import difflib
import logging

import torch
from pydantic import BaseModel, model_validator

from . import _peft, _private
from ._forward import FUNCTIONS, IMPLEMENTATIONS
from ._layer import Layer
from ._plans import nominal_plan
from ._register import register
from ._report import report

try:
    from axolotl.integrations.base import BasePlugin
except ImportError:  # only to be looked at or tested: Axolotl itself loads the plug-in
    BasePlugin = object

_LOG = logging.getLogger("moesmith")
_NAMES = ("eager", "batched_mm", "grouped_mm", "scattermoe", "sonicmoe", "moesmith", "auto")
# Plug-ins that put other functions in the same places, and what to do.
_CONFLICTS = {
    "KernelsPlugin": "it registers other functions under the same names; remove one of the two",
    "ExpertParallelPlugin": "experts spread over several processes are not built; remove it",
}


def _check_name(key: str, name: str) -> str:
    if name in _NAMES:
        return "moesmith" if name == "auto" else name
    if name.startswith("deep_ep"):
        raise ValueError(f"{key}: {name} spreads experts over several processes: not built")
    near = difflib.get_close_matches(name, _NAMES, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{key}: got {name!r}, expected one of {', '.join(_NAMES)}{meant}")


def resolve_implementation(
    experts_implementation: str | None = None,
    expert_backend: str | None = None,
    use_scattermoe: bool | None = None,
    use_sonicmoe: bool | None = None,
    use_kernels: bool | None = None,
) -> str:
    """The one implementation that the keys mean; "moesmith" when none is said. Raises ValueError
    naming the keys that contradict each other, or a name that is not known."""
    name, by = None, None

    def ask(key: str, wanted: str) -> None:
        nonlocal name, by
        if name is not None and name != wanted:
            raise ValueError(f"{key} asks for {wanted}, but {by} for {name}; give one")
        name, by = wanted, key

    named = {"experts_implementation": experts_implementation, "expert_backend": expert_backend}
    for key, value in named.items():
        if value:
            ask(key, _check_name(key, value))
    flags = {"use_scattermoe": use_scattermoe, "use_sonicmoe": use_sonicmoe}
    for key, flag in flags.items():
        wanted = key.removeprefix("use_")
        if flag:
            ask(key, wanted)
            if use_kernels is False:
                raise ValueError(f"use_kernels: false contradicts {key}: true")
        elif flag is False and name == wanted:
            raise ValueError(f"{key}: false contradicts {by}: {wanted}")
    return name or "moesmith"


class MoesmithArgs(BaseModel):
    """The keys, parsed to their types before any rule looks at them."""

    use_kernels: bool | None = None
    use_scattermoe: bool | None = None
    use_sonicmoe: bool | None = None
    expert_backend: str | None = None
    experts_implementation: str | None = None
    expert_parallel_size: int | None = None

    @model_validator(mode="after")
    def moesmith_rules(self):
        self.experts_implementation = resolve_implementation(
            self.experts_implementation,
            self.expert_backend,
            self.use_scattermoe,
            self.use_sonicmoe,
            self.use_kernels,
        )
        if (self.expert_parallel_size or 1) != 1:
            raise ValueError(
                f"expert_parallel_size: got {self.expert_parallel_size}, expected 1: experts "
                "spread over several processes are not built"
            )
        for plugin in getattr(self, "plugins", None) or []:
            last = plugin.rsplit(".", 1)[-1]
            if last in _CONFLICTS:
                raise ValueError(f"plugins: {plugin} beside MoesmithPlugin: {_CONFLICTS[last]}")
        if getattr(self, "quantize_moe_experts", False):
            raise ValueError(
                "quantize_moe_experts: true: the kernels read bfloat16 or float32 experts; "
                "remove it"
            )
        if getattr(self, "fp16", None) is True:
            raise ValueError(
                "fp16: true: the kernels compute in bfloat16 or float32; use bf16: true"
            )
        return self


def _check_device(name: str) -> None:
    """Raises UnsupportedError, with each implementation's reason, when none runs here."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    gate_up = torch.empty(1, 128, 64, dtype=torch.bfloat16, device=device)
    down = torch.empty(1, 64, 64, dtype=torch.bfloat16, device=device)
    nominal_plan(gate_up, down, Layer(implementation=IMPLEMENTATIONS[name]), 1024)


def _check_targets(cfg, model) -> None:
    """Each of lora_target_parameters has an adapter; otherwise training would leave it out."""
    wanted = cfg.lora_target_parameters or []
    wanted = [wanted] if isinstance(wanted, str) else wanted
    kind = _private.param_wrapper()
    adapted = [
        f"{name.replace('.base_layer', '')}.{module.parameter_name}"
        for name, module in model.named_modules()
        if isinstance(module, kind)
    ]
    for target in wanted:
        if not any(name == target or name.endswith("." + target) for name in adapted):
            raise ValueError(f"lora_target_parameters: {target} matches no parameter of the model")


class MoesmithPlugin(BasePlugin):
    """Registers the kernels before the model is loaded, and reports what runs."""

    def get_input_args(self) -> str:
        return "moesmith.axolotl.MoesmithArgs"

    def pre_model_load(self, cfg) -> None:
        """Raises ImportError for a transformers or PEFT that is too old, UnsupportedError where the
        implementation cannot run on this machine."""
        register()
        found = _private.release_of("peft")
        if cfg.adapter and found is not None and found < _private.OLDEST_PEFT:
            raise ImportError(f"moesmith: {_peft.too_old(found)}")
        name = cfg.experts_implementation or "moesmith"
        if name in FUNCTIONS:
            _check_device(name)
        cfg.experts_implementation = name

    def post_model_build(self, cfg, model) -> None:
        """Raises ValueError for a model whose experts take no implementation."""
        if cfg.experts_implementation in FUNCTIONS:
            rows = report(model)
            if not any(row.switchable for row in rows):
                raise ValueError(
                    f"experts_implementation: {cfg.experts_implementation}: this model has no "
                    "experts module that takes one; remove the plug-in"
                )

    def post_lora_load(self, cfg, model) -> None:
        """Raises ValueError for a target that matched nothing."""
        _check_targets(cfg, model)

    def post_model_load(self, cfg, model) -> None:
        """Logs the report."""
        _LOG.info("moesmith: experts\n%s", report(model))
