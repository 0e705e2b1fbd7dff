# SPDX-License-Identifier: Apache-2.0
"""What an experts module computes, as a value: activation, layout, implementation.

A `Layer` crosses torch.library as text (operators take no Python objects), and is read back once.
"""

from __future__ import annotations

import dataclasses
import functools

from . import _library


@dataclasses.dataclass(frozen=True)
class Layer:
    """How y is computed from x and the weights; sizes and dtypes come from the tensors.

    gated:     a = act(min(g, gate_max)) * (clamp(u, -up_limit, up_limit) + up_shift)
    not gated: a = act(min(h, gate_max))
    act is silu (g * sigmoid(alpha * g)), gelu, gelu_tanh, relu or relu2. `interleaved` rows are
    g0, u0, g1, u1, ...; otherwise all gates come first. `transposed` weights are [E, in, out].
    `text` is the value as one line.
    """

    implementation: str = "auto"
    activation: str = "silu"
    gated: bool = True
    gate_max: float | None = None
    up_limit: float | None = None
    alpha: float = 1.0
    up_shift: float = 0.0
    interleaved: bool = False
    transposed: bool = False

    def __post_init__(self):
        if self.activation not in _library.ACTIVATIONS:
            raise _library.InvalidInputError(
                f"moesmith: activation: got {self.activation!r}, expected one of "
                + ", ".join(_library.ACTIVATIONS)
            )
        fields = dataclasses.fields(self)
        # Made here, once: torch.compile takes it for a constant.
        text = ";".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields)
        object.__setattr__(self, "text", text)

    @staticmethod
    @functools.cache
    def from_text(text: str) -> Layer:
        """The inverse of `text`."""
        kinds = {f.name: f.type for f in dataclasses.fields(Layer)}
        values = {}
        for field in text.split(";"):
            name, _, value = field.partition("=")
            if kinds[name] == "str":
                values[name] = value[1:-1]
            elif kinds[name] == "bool":
                values[name] = value == "True"
            else:
                values[name] = None if value == "None" else float(value)
        return Layer(**values)

    def fill(self, activation: _library.Activation) -> None:
        """Writes the activation into its C struct."""
        activation.kind = _library.ACTIVATIONS[self.activation]
        activation.gated = self.gated
        if self.gate_max is not None:
            activation.has_gate_max, activation.gate_max = 1, self.gate_max
        if self.up_limit is not None:
            activation.has_up_limit, activation.up_limit = 1, self.up_limit
        activation.alpha, activation.up_shift = self.alpha, self.up_shift
