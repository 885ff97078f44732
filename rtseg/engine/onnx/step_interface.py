"""Inputs and outputs of a step as ONNX: their names, shapes and dtypes, for building a step and for running one.

Knows no ONNX package. In every step the caches go in as `past.N` and come out as `present.N`; the graph holds no state.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.onnx.onnx_nodes import Precision

Form = Literal["shifted", "in_place"]
"""How a step keeps its caches: concatenated and cut at every frame, or rings that it writes into."""
FORMS: tuple[Form, ...] = ("shifted", "in_place")

FEATURES, FRAME, PROBABILITIES = "features", "frame", "probabilities"
OPEN = None
"""A batch size that is fixed only when the model is loaded; the model calls it `row_name(1)`."""


def past_name(layer: int) -> str:
    """The input that holds a layer's cache."""
    return f"past.{layer}"


def present_name(layer: int) -> str:
    """The output that holds it one frame later; for `in_place` the same memory may be bound to both."""
    return f"present.{layer}"


def row_name(rows_per_stream: int) -> str:
    """The name of an open dimension with so many rows a stream; its size is given when the model is loaded."""
    return "B" if rows_per_stream == 1 else f"{rows_per_stream}*B"


def cache_shapes(spec: NetworkSpec, form: Form, batch: int) -> list[tuple[int, ...]]:
    """Shape of every layer's cache: the trunk's layers, the heads', the cells; zeros are a fresh stream.

    shifted: (rows, (K-1)*dilation, C), the oldest input first. in_place: rings (rows, 1, S, C) with
    S = (K-1)*dilation + 1, input t at t modulo S. rows: B in the trunk, H*B in the heads' layers: for head h of stream
    b row h*B + b, and in place b*H + h, so that a stream's rows lie together wherever the batch ends. A cell's cache
    holds its states: (B, period, R), and in place (B, 1, period + 1, R), so that the new one is not written where the
    old one is read.
    """
    rows = [(batch, spec.channels, d) for d in spec.dilations]
    rows += [(len(spec.heads) * batch, spec.head_channels, d) for d in spec.head_dilations]
    reach = spec.kernel - 1
    cells = [(batch, cell.period, cell.hidden) for cell in spec.cells]
    if form == "shifted":
        return [*((n, reach * d, c) for n, c, d in rows), *cells]
    return [*((n, 1, reach * d + 1, c) for n, c, d in rows), *((n, 1, period + 1, r) for n, period, r in cells)]


def cache_dtypes(spec: NetworkSpec, precision: Precision = "fp32") -> list[type]:
    """numpy's type of every layer's cache, in the order of `cache_shapes`.

    Inputs of layers are only ever read by products, which round them to float16 anyway; a cell's state stays float32.
    """
    layers: type = np.float32 if precision == "fp32" else np.float16
    return [layers] * (len(spec.dilations) + len(spec.head_dilations)) + [np.float32] * len(spec.cells)
