"""The shape of the network that a bundle holds: trunk, heads, sizes, and the name and shape of every weight.

Training fills these weights, every engine reads them; both follow this file. It computes nothing.

One step, at frame t, with z the scaled features, conv over the last `kernel` inputs spaced by the layer's dilation:

    x = input(z);  per trunk layer: x = x + mix(relu(conv(x)))        (the predictor generator: convolutions,
    per cell: e = relu(encode(view(z))) for every view of z,           recurrent cells, or both)
              g = gru([mean of e, maximum of e less its mean], what g was `period` frames ago)
    h = [x, g of every cell]
    per head: q = first(h);  r = enter([softmax(q), h]);  per layer: r = r + mix(relu(conv(r)))   (the refinement)
              p = softmax((q + leave(r)) * scale + shift)                             (scale, shift: the calibration)

A view is the features with the animals in another order. Mean and maximum over all views do not depend on which animal
is the first: the mean holds what the animals have in common, the maximum less the mean how they differ. gru is Cho et
al. 2014 as torch and cuDNN compute it, gates in the order reset, update, new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Self

from rtseg.bundle.architecture import (
    Architecture,
    calibration_shapes,
    check_sizes,
    heads_from_list,
    heads_to_list,
)
from rtseg.errors import BundleError
from rtseg.recordings.heads import Head


@dataclass(frozen=True)
class Cell:
    """A recurrent cell of the trunk.

    encoder: E, width of each view's code. hidden: R, width of the state. period: it has a state for each
    phase and advances one of them at each frame (a dilated recurrence, Chang et al. 2017), so that it can be trained on
    every period-th frame.
    """

    encoder: int
    hidden: int
    period: int = 1


@dataclass(frozen=True)
class NetworkSpec(Architecture):
    """Sizes of the causal multitask network (paper, IV.C and IV.D).

    n_features: F. channels: C, 0 where the trunk has no convolutions. kernel: taps of every convolution. dilations: of
    the trunk's layers. head_channels: G, 0 where nothing is refined: p = softmax(q * scale + shift). head_dilations: of
    every refinement head's layers. heads: in the order of the P outputs. cells: recurrent cells of the trunk. views:
    for each view the column of the features at every place, counted from 1 and negative where its sign is
    reversed; none = the features as they are, e alone enters gru.
    """

    n_features: int
    channels: int
    kernel: int
    dilations: tuple[int, ...]
    head_channels: int
    head_dilations: tuple[int, ...]
    heads: tuple[Head, ...]
    cells: tuple[Cell, ...] = ()
    views: tuple[tuple[int, ...], ...] = ()

    @property
    def width(self) -> int:
        """D: of the trunk's output h."""
        return self.channels + sum(cell.hidden for cell in self.cells)

    def entering(self, cell: Cell) -> int:
        """Number of inputs of a cell's gru beside its state."""
        return 2 * cell.encoder if self.views else cell.encoder

    @property
    def looks_back(self) -> str:
        # A recurrent cell never forgets entirely.
        return "all frames" if self.cells else f"up to {self.receptive_field - 1} frames"

    @property
    def receptive_field(self) -> int:
        """Frames that one answer depends on; of the convolutions alone where there are cells, which never forget."""
        return 1 + (self.kernel - 1) * (sum(self.dilations) + sum(self.head_dilations))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one step, for one frame of one stream."""
        c, g, d = self.channels, self.head_channels, self.width
        trunk = self.n_features * c + len(self.dilations) * (self.kernel + 1) * c * c
        for cell in self.cells:
            trunk += max(len(self.views), 1) * self.n_features * cell.encoder
            trunk += 3 * cell.hidden * (self.entering(cell) + cell.hidden)
        refinement = d * g + len(self.head_dilations) * (self.kernel + 1) * g * g
        return trunk + sum(refinement + len(h.classes) * (d + 2 * g) for h in self.heads)

    @property
    def work(self) -> int:
        return self.multiply_adds

    @property
    def size(self) -> str:
        weights = sum(math.prod(shape) for shape in self.shapes().values())
        return f"{weights:,} weights, {self.multiply_adds:,} multiply-adds per frame"

    @property
    def state_floats(self) -> int:
        """float32 numbers that a stream's state has: what its convolutions look back at, and its cells' states."""
        c, g, reach = self.channels, self.head_channels, self.kernel - 1
        trunk = sum((reach * d + 1) * c for d in self.dilations)
        heads = len(self.heads) * sum((reach * d + 1) * g for d in self.head_dilations)
        return trunk + heads + sum(cell.period * cell.hidden for cell in self.cells)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every float32 tensor. Inputs come before outputs: y = x @ w + b."""
        c, g, k, d, layers = self.channels, self.head_channels, self.kernel, self.width, len(self.dilations)
        shapes: dict[str, tuple[int, ...]] = {
            "scaler.fill": (self.n_features,),
            "scaler.shift": (self.n_features,),
            "scaler.scale": (self.n_features,),
            "scaler.clip": (1,),
        }
        if c:
            shapes |= {
                "input.weight": (self.n_features, c),
                "input.bias": (c,),
                **_block("trunk", layers, k, c),
            }
        for number, cell in enumerate(self.cells):
            name, e, r = f"cell.{number}", cell.encoder, cell.hidden
            shapes |= {
                f"{name}.encode.weight": (self.n_features, e),
                f"{name}.encode.bias": (e,),
                f"{name}.enter.weight": (self.entering(cell), 3 * r),
                f"{name}.enter.bias": (3 * r,),
                f"{name}.recur.weight": (r, 3 * r),
                f"{name}.recur.bias": (3 * r,),
            }
        for head in self.heads:
            n, name = len(head.classes), f"head.{head.name}"
            shapes |= {
                f"{name}.first.weight": (d, n),
                f"{name}.first.bias": (n,),
                **calibration_shapes(head),
            }
            # Without refinement an answer is the first layer's, and there is nothing to enter or leave.
            if g:
                shapes |= {
                    f"{name}.enter.weight": (n + d, g),
                    f"{name}.enter.bias": (g,),
                    **_block(name, len(self.head_dilations), k, g),
                    f"{name}.leave.weight": (g, n),
                    f"{name}.leave.bias": (n,),
                }
        return shapes

    def _with_heads(self, places: Sequence[int]) -> Self:
        return replace(self, heads=tuple(self.heads[place] for place in places))

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
            "heads": heads_to_list(self.heads),
            "cells": [asdict(cell) for cell in self.cells],
            "views": [list(view) for view in self.views],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> NetworkSpec:
        """The inverse of `to_dict`. Raises BundleError for another kind of network or wrong fields."""
        plain = dict(plain)
        kind = plain.pop("kind", None)
        if kind != "multitask-tcn":
            raise BundleError(f"expected an architecture of kind 'multitask-tcn', got {kind!r}: update rtseg")
        try:
            heads = heads_from_list(plain.pop("heads"))
            dilations, head_dilations = tuple(plain.pop("dilations")), tuple(plain.pop("head_dilations"))
            cells = tuple(Cell(**cell) for cell in plain.pop("cells", ()))
            views = tuple(tuple(view) for view in plain.pop("views", ()))
            sizes = [size for cell in cells for size in astuple(cell)]
            # A trunk of cells alone has no channels, and answers that nothing refines have no head channels.
            absent = {"channels"} if cells and not dilations else set()
            absent |= set() if head_dilations else {"head_channels"}
            sizes += [size for name, size in plain.items() if not (name in absent and size == 0)]
            check_sizes([*dilations, *head_dilations, *sizes])
            for view in views:
                if sorted(map(abs, view)) != list(range(1, plain["n_features"] + 1)):
                    raise BundleError(f"a view names every feature once, counted from 1, got {list(view)[:8]} ...")
            return cls(
                dilations=dilations, head_dilations=head_dilations, heads=heads, cells=cells, views=views, **plain
            )
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
