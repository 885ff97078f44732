"""The shape of the network that a bundle holds: heads, sizes, and the name and shape of every weight.

Training fills these weights, every engine reads them; this file is where both agree. It computes nothing.

One step, at frame t, with z the scaled features, conv over the last `kernel` inputs spaced by the layer's dilation:

    h = input(z);  per trunk layer: h = h + mix(relu(conv(h)))                        (the predictor generator)
    per head: q = first(h);  r = enter([softmax(q), h]);  per layer: r = r + mix(relu(conv(r)))   (the refinement)
              p = softmax((q + leave(r)) * scale + shift)                             (scale, shift: the calibration)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rtseg.errors import BundleError
from rtseg.recordings.heads import Head


@dataclass(frozen=True)
class NetworkSpec:
    """Sizes of the causal multitask TCN (paper, IV.C and IV.D).

    n_features: F. channels: C. kernel: taps of every convolution. dilations: of the trunk's layers. head_channels: G.
    head_dilations: of every refinement head's layers. heads: in the order of the P outputs.
    """

    n_features: int
    channels: int
    kernel: int
    dilations: tuple[int, ...]
    head_channels: int
    head_dilations: tuple[int, ...]
    heads: tuple[Head, ...]

    @property
    def n_outputs(self) -> int:
        """P."""
        return sum(len(h.classes) for h in self.heads)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each head begins in the outputs, and P at the end. Length H + 1."""
        offsets = [0]
        for head in self.heads:
            offsets.append(offsets[-1] + len(head.classes))
        return tuple(offsets)

    @property
    def receptive_field(self) -> int:
        """Frames that one answer depends on."""
        return 1 + (self.kernel - 1) * (sum(self.dilations) + sum(self.head_dilations))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one step, for one frame of one stream."""
        c, g = self.channels, self.head_channels
        trunk = self.n_features * c + len(self.dilations) * (self.kernel + 1) * c * c
        refinement = c * g + len(self.head_dilations) * (self.kernel + 1) * g * g
        return trunk + sum(refinement + len(h.classes) * (c + 2 * g) for h in self.heads)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every float32 tensor. Inputs come before outputs: y = x @ w + b."""
        c, g, k, layers = self.channels, self.head_channels, self.kernel, len(self.dilations)
        shapes: dict[str, tuple[int, ...]] = {
            "scaler.fill": (self.n_features,),
            "scaler.shift": (self.n_features,),
            "scaler.scale": (self.n_features,),
            "scaler.clip": (1,),
            "input.weight": (self.n_features, c),
            "input.bias": (c,),
            **_block("trunk", layers, k, c),
        }
        for head in self.heads:
            n, name = len(head.classes), f"head.{head.name}"
            shapes |= {
                f"{name}.first.weight": (c, n),
                f"{name}.first.bias": (n,),
                f"{name}.enter.weight": (n + c, g),
                f"{name}.enter.bias": (g,),
                **_block(name, len(self.head_dilations), k, g),
                f"{name}.leave.weight": (g, n),
                f"{name}.leave.bias": (n,),
                f"{name}.calibration.scale": (n,),
                f"{name}.calibration.shift": (n,),
            }
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {
            "kind": "multitask-tcn",
            "n_features": self.n_features,
            "channels": self.channels,
            "kernel": self.kernel,
            "dilations": list(self.dilations),
            "head_channels": self.head_channels,
            "head_dilations": list(self.head_dilations),
            "heads": [
                {"name": h.name, "classes": list(h.classes), "scored": list(h.scored), "group": h.group}
                for h in self.heads
            ],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> NetworkSpec:
        """The inverse of `to_dict`. Raises BundleError for another kind of network or wrong fields."""
        plain = dict(plain)
        kind = plain.pop("kind", None)
        if kind != "multitask-tcn":
            raise BundleError(f"expected an architecture of kind 'multitask-tcn', got {kind!r}: update rtseg")
        try:
            heads = tuple(
                Head(str(h["name"]), tuple(h["classes"]), tuple(h["scored"]), str(h["group"]))
                for h in plain.pop("heads")
            )
            for head in heads:
                if len(set(head.classes)) < 2 or set(head.scored) - set(head.classes):
                    raise BundleError(f"head {head.name!r} has the classes {head.classes}, scored {head.scored}")
            dilations, head_dilations = tuple(plain.pop("dilations")), tuple(plain.pop("head_dilations"))
            for size in (*dilations, *head_dilations, *plain.values()):
                if not isinstance(size, int) or size < 1:
                    raise BundleError(f"sizes and dilations of an architecture are whole and positive, got {size!r}")
            return cls(dilations=dilations, head_dilations=head_dilations, heads=heads, **plain)
        except (KeyError, TypeError) as error:
            raise BundleError(f"the architecture in the manifest lacks or misnames a field: {error}") from error


def _block(name: str, layers: int, kernel: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Dilated residual layers: x + mix(relu(conv(x))). Tap 0 is the oldest."""
    return {
        f"{name}.conv.weight": (layers, kernel, channels, channels),
        f"{name}.conv.bias": (layers, channels),
        f"{name}.mix.weight": (layers, channels, channels),
        f"{name}.mix.bias": (layers, channels),
    }
